import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from kws.config.architecture import load_architecture
from kws.model.labels import LabelSet
from kws.model.modeling import KwsFeatureExtractor, KwsForAudioClassification, build_model
from kws.model.window import pad_or_crop

FEATURES = dict(n_fft=512, window_ms=30.0, hop_ms=10.0, num_mels=40, fmin_hz=20.0, fmax_hz=8000.0, log_offset=1e-6)
LABELS = LabelSet.from_keywords(["yes", "no"])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    architecture = load_architecture(Path("configs/arch/nano.yaml")).as_json()
    return build_model(LABELS.names, 16000, 16000, FEATURES, architecture).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    KwsFeatureExtractor(16000, 16000).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def waveforms():
    return 0.1 * torch.randn(3, 16000, generator=torch.Generator().manual_seed(0))


def test_weights_start_as_pytorch_starts_them(model):
    """transformers' own default, N(0, 0.02), would be a tenth of this."""
    assert float(model.network.stem[0].weight.detach().std()) == pytest.approx(25 ** -0.5 / 3 ** 0.5, rel=0.2)


def test_saved_and_loaded_logits_are_equal(model, folder, waveforms):
    loaded = AutoModelForAudioClassification.from_pretrained(folder).eval()
    assert isinstance(loaded, KwsForAudioClassification)
    assert torch.equal(loaded(waveforms).logits, model(waveforms).logits)
    assert LabelSet.from_id2label(loaded.config.id2label) == LABELS


def test_features_may_stand_in_for_waveforms(model, waveforms):
    assert torch.equal(model(input_features=model.features(waveforms)).logits, model(waveforms).logits)


def test_labels_add_the_loss(model, waveforms):
    labels = torch.tensor([0, 1, 2])
    with torch.no_grad():
        outputs = model(waveforms, labels=labels)
    assert float(outputs.loss) == pytest.approx(float(torch.nn.functional.cross_entropy(outputs.logits, labels)))


def test_a_clip_among_loud_and_silent_neighbours_is_answered_alike(model, waveforms):
    crowd = torch.cat([torch.ones(1, 16000), waveforms, torch.zeros(2, 16000), torch.rand(3, 16000) * 2 - 1])
    assert torch.allclose(model(crowd).logits[2], model(waveforms[1:2]).logits[0], atol=1e-5)


@pytest.mark.parametrize("length", [1, 159, 15999, 16000, 16001, 48000])
def test_the_extractor_fits_any_length(folder, length):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    waveform = np.random.default_rng(0).normal(size=length).astype(np.float32)
    found = extractor(waveform, sampling_rate=16000, return_tensors="pt")["input_values"]
    assert found.shape == (1, 16000) and found.dtype == torch.float32
    np.testing.assert_array_equal(found[0].numpy(), pad_or_crop(waveform, 16000))
    assert extractor([waveform, waveform])["input_values"].shape == (2, 16000)


def test_the_extractor_refuses_other_rates_and_channels(folder):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    with pytest.raises(ValueError, match="8000 Hz; expected 16000 Hz"):
        extractor(np.zeros(10), sampling_rate=8000)
    with pytest.raises(ValueError, match="mono"):
        extractor([np.zeros((10, 2))])


def test_the_extractor_takes_tensors_and_lists_of_numbers(folder):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    waveform = np.random.default_rng(0).normal(size=12000).astype(np.float32)
    expected = extractor(waveform)["input_values"]
    for same in (torch.from_numpy(waveform), torch.from_numpy(waveform)[None], waveform[None], [waveform.tolist()],
                 waveform.tolist(), [torch.from_numpy(waveform)]):
        np.testing.assert_array_equal(extractor(same)["input_values"], expected)
    for wrong in ([], torch.zeros(2, 3, 12000), np.zeros((1000, 2, 2)), 0.5, torch.tensor(0.5)):
        with pytest.raises(ValueError) as caught:
            extractor(wrong)
        assert len(str(caught.value)) < 200


PIPELINE = """
import sys
{imports}
import numpy as np
from transformers import pipeline
spot = pipeline("audio-classification", model={folder!r}{options})
waveform = np.load({waveform!r})
print({{row["label"]: row["score"] for row in spot({{"array": waveform, "sampling_rate": 16000}}, top_k=4)}})
assert ("kws" in sys.modules) == {with_kws}
"""


@pytest.mark.parametrize("imports, options, with_kws", [
    ("import kws.model.modeling", "", True),
    ("sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]",
     ", trust_remote_code=True", False)],
    ids=["kws installed", "kws not installed"])
def test_the_pipeline_answers_in_a_fresh_process(model, folder, waveforms, tmp_path, imports, options, with_kws):
    np.save(tmp_path / "clip.npy", waveforms[0].numpy())
    code = PIPELINE.format(imports=imports, folder=str(folder), options=options, with_kws=with_kws,
                           waveform=str(tmp_path / "clip.npy"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    if with_kws:
        environment["PYTHONPATH"] = str(Path.cwd())
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = torch.softmax(model(waveforms[:1]).logits[0], dim=0).tolist()
    found = eval(done.stdout.strip().splitlines()[-1])
    assert found == pytest.approx(dict(zip(LABELS, expected)), abs=1e-5)


def test_a_module_that_has_moved_is_found_with_a_warning():
    sys.modules.pop("kws.modeling", None)
    with pytest.warns(FutureWarning, match="kws.modeling is now kws.model.modeling"):
        old = importlib.import_module("kws.modeling")
    new = importlib.import_module("kws.model.modeling")
    assert [getattr(old, name) for name in old.__all__] == [getattr(new, name) for name in old.__all__]
