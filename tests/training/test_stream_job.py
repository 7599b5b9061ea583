"""The road to a model for running sound: prepared store, training, export, listening, measuring."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kws.__main__ import main
from kws.audio.folders import NEGATIVES_FOLDER
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK
from kws.config.architecture import load_architecture
from kws.data.split import TRAINING
from kws.data.store import load_store
from kws.files.locks import exclusive
from kws.inference.listening import StreamModel, listen
from kws.model.folder import ONNX_FILE, SECOND_FILE, SHIPPED, STREAM_FILE, STREAM_WEIGHTS_FILE
from kws.model.labels import LabelSet
from kws.model.loading import labels_of, load_stream_model, load_torch_model
from kws.model.modeling import build_model
from kws.model.second_look import load_second_look
from kws.model.streaming import StreamingClassifier
from kws.training.body import start_on_sound
from kws.training.stream_job import recordings, sources

CONFIG = Path("configs/kws.yaml").resolve()
pytestmark = pytest.mark.usefixtures("backgrounds_made_once")


@pytest.fixture
def settings(corpus, exported, no_pictures, tmp_path, noise):
    """Command-line overrides for a tiny run; the corpus, with talk in it, is prepared."""
    talk = corpus() / NEGATIVES_FOLDER
    talk.mkdir()
    soundfile.write(talk / "tv.ogg", noise(1, 6.0), 22050)
    values = {"data.root": tmp_path / "data", "data.prepared": tmp_path / "prepared", "data.keywords": '["yes", "no"]',
              "training.model": exported, "streams.steps": 2, "streams.start_from": SHIPPED,
              "training.checkpoints": tmp_path / "runs",
              "streams.batch_size": 2, "streams.seconds": 2.5, "tracking.enabled": "false"}
    made = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    assert main(["prepare", "configs/kws.yaml", *made, "--reports", str(tmp_path / "reports")]) == EXIT_OK
    return made


@pytest.fixture
def look(exported, tmp_path):
    """A second look by a network of few layers, which makes its export short."""
    small = load_torch_model(exported).config.architecture
    path = tmp_path / "look.yaml"
    path.write_text(json.dumps({**small, "spectral": small["spectral"][-1:],
                                "temporal": {**small["temporal"], "blocks": 1}}))
    return ["--set", f"streams.second_look={path}"]


def test_a_clip_model_becomes_one_for_running_sound(settings, look, exported, tmp_path, noise, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path.parent)
    config = str(CONFIG)
    folder, clips = exported, (exported / ONNX_FILE).read_bytes()
    assert main(["train-streams", config, *settings, *look]) == EXIT_OK
    assert "without a keyword" not in capsys.readouterr().err
    assert main(["export", str(folder), "--config", config, *settings]) == EXIT_OK
    assert (folder / ONNX_FILE).read_bytes() == clips
    model = StreamModel(folder / STREAM_FILE)
    assert model.state_size > StreamingClassifier(load_stream_model(folder)).state_size  # there is a second look
    assert model.settings.smoothing_seconds == 0.3 and list(model.labels.keywords) == ["yes", "no"]
    assert {found.word for found in listen(model, [noise(2, 3.0)])} <= {"yes", "no"}
    streams = tmp_path / "set"
    streams.mkdir()
    soundfile.write(streams / "a.wav", noise(3, 20.0), 16000)
    (streams / "manifest.csv").write_text("path,seconds,kind,language,keyword_free\na.wav,20,speech,en,yes\n")
    (streams / "events.csv").write_text("stream,start_s,end_s,word,voice_end_s\n")
    report = tmp_path / "report"
    assert main(["evaluate-streams", str(streams), "--model", str(folder), "--per-hour", "0.5", "--write",
                 "--output", str(report)]) == EXIT_OK
    written = json.loads((report / "metrics.json").read_text())["detector"]
    assert written["threshold"] == StreamModel(folder / STREAM_FILE).settings.threshold
    assert written == json.loads((folder / "config.json").read_text())["detector"]
    assert np.isfinite(written["threshold"])


def test_where_nobody_talks_without_a_keyword_that_is_told(settings, exported, tmp_path, capsys):
    shutil.rmtree(tmp_path / "data" / NEGATIVES_FOLDER)
    assert main(["train-streams", "configs/kws.yaml", *settings]) == EXIT_OK
    assert f"neither in streams.negatives nor in {tmp_path}/data/_negative_speech_" in capsys.readouterr().err
    assert (exported / STREAM_WEIGHTS_FILE).is_file()


def test_a_larger_network_learns_beside_it_where_one_is_wanted(settings, look, exported):
    for more in (look, [], look):  # the folder holds what the last training made
        assert main(["train-streams", str(CONFIG), *settings, *more]) == EXIT_OK
        assert (exported / SECOND_FILE).is_file() == bool(more) and not (exported / STREAM_FILE).exists()
        (exported / STREAM_FILE).touch()


def like_the_shipped_one(keywords, architecture="small"):
    shipped = load_torch_model(SHIPPED)
    path = CONFIG.parent / f"arch/{architecture}.yaml"
    return build_model(LabelSet.from_keywords(keywords).names, shipped.config.sample_rate, shipped.config.num_samples,
                       shipped.config.features, load_architecture(path).as_json()).eval()


def test_what_is_known_of_running_sound_is_taken_over_word_by_word(caplog):
    known, model = load_stream_model(SHIPPED), like_the_shipped_one(["yes", "lights", "no"])
    second = like_the_shipped_one(["yes", "lights", "no"], "large")
    start_on_sound(SHIPPED, [second, model])
    sound = torch.rand(2, 1, known.config.features["num_mels"], 100, generator=torch.Generator().manual_seed(0)).log()
    for started, whole in ((model, known.network), (second, load_second_look(SHIPPED, known))):
        with torch.inference_mode():
            expected, found = whole(sound), started.network(sound)
        names = labels_of(known).names
        for row, label in enumerate(("yes", "_unknown_", "no", "_unknown_", "_silence_")):
            torch.testing.assert_close(found[:, row], expected[:, names.index(label)])
    assert not caplog.records


def test_a_network_of_another_kind_starts_without(caplog):
    model = like_the_shipped_one(["yes"], "nano")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    start_on_sound(SHIPPED, [model])
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert f"{SHIPPED}: no network for running sound is like" in caplog.text


@pytest.mark.parametrize("damage, expected", [
    (lambda folder: shutil.rmtree(folder), "no config.json"),
    (lambda folder: (folder / STREAM_WEIGHTS_FILE).unlink(), "no such file"),
    (lambda folder: (folder / STREAM_WEIGHTS_FILE).write_bytes(b"nothing"), "cannot be loaded"),
    (lambda folder: (folder / SECOND_FILE).write_bytes(b"nothing"), "cannot be loaded")],
    ids=["no folder", "clips only", "damaged", "damaged second look"])
def test_a_start_that_knows_no_running_sound_is_refused_before_sound_is_read(settings, exported, tmp_path, capsys,
                                                                             damage, expected):
    start, bad = shutil.copytree(SHIPPED, tmp_path / "start"), tmp_path / "bad.wav"
    damage(start)
    bad.write_bytes(b"nothing")
    assert main(["train-streams", "configs/kws.yaml", *settings, "--set", f"streams.start_from={start}",
                 "--set", f"streams.negatives=[{bad}]"]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "streams.start_from" in error and str(start) in error and expected in error and "null" in error
    assert str(bad) not in error and not (exported / STREAM_WEIGHTS_FILE).exists()


def test_a_network_that_cannot_take_a_second_look_is_refused(settings, exported, capsys):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    look = ["--set", f"streams.second_look={CONFIG.parent / 'arch/bcresnet-1.yaml'}"]
    assert main(["train-streams", str(CONFIG), *settings, *look]) == EXIT_BAD_INPUT
    assert "only folded-mel networks" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before


def test_no_steps_leave_the_clip_model_alone(settings, exported, capsys):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert main(["train-streams", "configs/kws.yaml", *settings, "--set", "streams.steps=0"]) == EXIT_OK
    assert "streams.steps is 0" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before


def prepared_again(settings, tmp_path):
    shutil.rmtree(tmp_path / "prepared")
    assert main(["prepare", "configs/kws.yaml", *settings, "--reports", str(tmp_path / "reports")]) == EXIT_OK


def test_keywords_alone_suffice(settings, exported, tmp_path):
    shutil.rmtree(tmp_path / "data/bed")
    shutil.rmtree(tmp_path / "data" / NEGATIVES_FOLDER)
    prepared_again(settings, tmp_path)
    assert main(["train-streams", "configs/kws.yaml", *settings]) == EXIT_OK
    assert (exported / STREAM_WEIGHTS_FILE).is_file()


def test_a_keyword_that_cannot_be_heard_is_named(settings, exported, tmp_path, noise, capsys):
    for number, path in enumerate((tmp_path / "data/no").iterdir()):
        soundfile.write(path, noise(number, amplitude=0.0002), 16000)
    prepared_again(settings, tmp_path)
    assert main(["train-streams", "configs/kws.yaml", *settings]) == EXIT_BAD_INPUT
    assert "no: none of 16 clips for training holds a voice" in capsys.readouterr().err
    assert not (exported / STREAM_WEIGHTS_FILE).exists()


def test_words_left_out_are_not_said(settings, tmp_path):
    store = load_store(tmp_path / "prepared")
    clips = len(store.manifest[(store.manifest["word"] == "bed") & (store.manifest["split"] == TRAINING)])
    assert [len(others) for others in sources(store, []).others] == [clips] and not sources(store, [], ["bed"]).others


def test_a_word_to_leave_out_that_nobody_said_is_named(settings, capsys):
    assert main(["train-streams", "configs/kws.yaml", *settings, "--set", "data.left_out=[dog]"]) == EXIT_BAD_INPUT
    assert "left_out: no recordings of dog" in capsys.readouterr().err


def test_a_model_is_written_by_one_training_at_a_time(settings, exported, capsys):
    with exclusive(exported, "a training"):
        assert main(["train-streams", "configs/kws.yaml", *settings]) == EXIT_BAD_INPUT
    assert f"{exported}: in use by a training" in capsys.readouterr().err


def test_long_recordings_are_mapped_and_equal_what_short_ones_are_read_as(tmp_path, noise):
    talk = np.round(noise(4, 63.0) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "long.flac", talk, 16000)
    soundfile.write(tmp_path / "short.flac", talk[:16000 * 5], 16000)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    long, short = recordings([tmp_path / "long.flac", tmp_path / "short.flac"], 16000, scratch)
    assert isinstance(long, np.memmap) and not isinstance(short, np.memmap)
    np.testing.assert_array_equal(long, talk)
    np.testing.assert_array_equal(short, talk[:len(short)])


@pytest.mark.parametrize("path, named", [("bad.wav", True), (f"data/{NEGATIVES_FOLDER}/bad.wav", False)])
def test_a_negative_that_cannot_be_read_is_named(settings, tmp_path, capsys, path, named):
    (tmp_path / path).write_bytes(b"nothing")
    setting = ["--set", f"streams.negatives=[{tmp_path / path}]"] if named else []
    assert main(["train-streams", "configs/kws.yaml", *settings, *setting]) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert str((tmp_path / path).parent) in message and "bad.wav" in message


def test_without_a_clip_model_nothing_is_made(settings, tmp_path, capsys):
    model = tmp_path / "absent"
    assert main(["train-streams", "configs/kws.yaml", *settings, "--set", f"training.model={model}"]) == EXIT_BAD_INPUT
    assert f"{model}: no config.json" in capsys.readouterr().err and not model.exists()
