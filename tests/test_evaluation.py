import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from kws import evaluation
from kws.config import load_architecture
from kws.errors import DataError, ModelError
from kws.labels import LabelSet
from kws.modeling import build_model
from kws.runtime import load_torch_model

FEATURES = dict(n_fft=512, window_ms=30.0, hop_ms=10.0, num_mels=40, fmin_hz=20.0, fmax_hz=8000.0, log_offset=1e-6)
LABELS = LabelSet.from_keywords(["yes", "no"])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    architecture = load_architecture(Path("configs/arch/nano.yaml")).model_dump(mode="json")
    return build_model(LABELS.names, 16000, 16000, FEATURES, architecture).eval()


@pytest.fixture
def manifest(tmp_path):
    """Five clips of which one is missing and one is text."""
    rng = np.random.default_rng(0)
    for name, rate in (("a", 16000), ("ünïcode, name", 8000), ("c", 16000)):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.normal(size=rate // 2), rate)
    (tmp_path / "text.wav").write_text("not audio")
    rows = [("a.wav", "yes"), ("ünïcode, name.wav", "no"), ("absent.wav", "no"), ("text.wav", "yes"), ("c.wav", "bed")]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(tmp_path / "clips.csv", index=False, encoding="utf-8-sig")
    return tmp_path / "clips.csv"


def test_a_manifest_keeps_good_clips_and_names_the_bad(model, manifest):
    clips = evaluation.clips_of_manifest(manifest, model)
    assert list(clips.names) == ["a.wav", "ünïcode, name.wav", "c.wav"]
    assert clips.targets.tolist() == [0, 1, 2]
    assert clips.waveforms.shape == (3, 16000)
    assert [error.split(":")[0] for error in clips.errors] == ["absent.wav", "text.wav"]


def test_figures_follow_from_the_models_answers(model, manifest):
    clips = evaluation.clips_of_manifest(manifest, model)
    result = evaluation.evaluate(model, clips)
    with torch.inference_mode():
        expected = torch.softmax(model(clips.waveforms).logits.double(), dim=1).numpy()
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-6)
    assert result.metrics["accuracy"] == (expected.argmax(axis=1) == clips.targets).mean()
    assert result.metrics["clips"] == 3 and result.metrics["unreadable"] == 2


def test_reports_are_written_whole(model, manifest, tmp_path):
    result = evaluation.evaluate(model, evaluation.clips_of_manifest(manifest, model))
    folder = tmp_path / "reports"
    evaluation.write_evaluation(result, model, folder, "a <title>")
    assert json.loads((folder / "metrics.json").read_text()) == result.metrics
    table = pd.read_csv(folder / "confusion.csv", index_col="spoken")
    assert table.to_numpy().sum() == 3 and table.index.tolist() == list(LABELS)
    for picture in ("confusion.png", "curves.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    page = (folder / "mistakes.html").read_text()
    assert "a &lt;title&gt;" in page and "absent.wav" in page and "data:image/png;base64," in page
    assert "accuracy" in evaluation.summary_table(result)


@pytest.mark.parametrize("content, expected", [
    ("path,word\na.wav,yes\n", "no column label; found path, word"),
    ("path,label\nx.wav,yes\n", "none of 1 clips can be read; x.wav: no such file"),
    ("path,label\n", "none of 0 clips"), ("", "not readable as CSV"),
])
def test_a_manifest_that_cannot_be_used_is_explained(model, tmp_path, content, expected):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        evaluation.clips_of_manifest(path, model)
    assert str(path) in str(caught.value) and expected in str(caught.value)


def test_a_missing_manifest_is_named(model, tmp_path):
    with pytest.raises(DataError, match="absent.csv: no such file"):
        evaluation.clips_of_manifest(tmp_path / "absent.csv", model)


def test_a_folder_that_is_no_model_is_named(tmp_path, model):
    with pytest.raises(ModelError, match="no config.json"):
        load_torch_model(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_torch_model(tmp_path)


def test_a_folder_that_holds_something_else_is_left_alone(model, manifest, tmp_path):
    result = evaluation.evaluate(model, evaluation.clips_of_manifest(manifest, model))
    with pytest.raises(FileExistsError, match="holds other files"):
        evaluation.write_evaluation(result, model, tmp_path, "title")
    assert manifest.exists()
    evaluation.write_evaluation(result, model, tmp_path / "reports", "title")
    evaluation.write_evaluation(result, model, tmp_path / "reports", "again")
