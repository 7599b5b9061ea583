"""Which model a command takes where none is named."""
import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from kws import KeywordSpotter
from kws.__main__ import main
from kws.commands import cli
from kws.errors import ModelError


@pytest.fixture
def shipped(exported, tmp_path, monkeypatch):
    """A shipped model, and an empty folder in which the user works."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(cli, "SHIPPED", exported)
    monkeypatch.setattr(cli, "TRAINED", Path("models/kws"))
    return exported


def test_without_a_trained_model_the_shipped_one_answers_and_is_named(shipped, caplog):
    with caplog.at_level(logging.WARNING):
        spotter = KeywordSpotter(cli.chosen_model(None))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "models/kws: no such folder; the shipped model is used, which recognises yes no"
    clip = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    assert spotter(clip) == KeywordSpotter(shipped)(clip)


def test_a_trained_model_is_taken_in_silence(shipped, tmp_path, caplog):
    shutil.copytree(shipped, "models/kws")
    proto = onnx.load("models/kws/model.onnx")
    onnx.helper.set_model_props(proto, {item.key: item.value.replace("yes", "fan") for item in proto.metadata_props})
    onnx.save(proto, "models/kws/model.onnx")
    assert KeywordSpotter(cli.chosen_model(None)).labels.keywords == ("fan", "no") and caplog.records == []


def empty_folder(path):
    path.mkdir()


def half_a_model(path):
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.onnx").write_text("not a model")


@pytest.mark.parametrize("damage", [empty_folder, half_a_model, lambda path: path.symlink_to("gone")],
                         ids=["empty folder", "damaged file", "dangling link"])
def test_a_broken_trained_model_is_an_error(shipped, tmp_path, caplog, damage):
    (tmp_path / "work/models").mkdir()
    damage(tmp_path / "work/models/kws")
    with pytest.raises(ModelError, match="models/kws"):
        KeywordSpotter(cli.chosen_model(None))
    assert caplog.records == []


@pytest.mark.parametrize("model", ["models/kws", "models/absent"])
def test_a_model_that_was_named_has_no_substitute(shipped, caplog, model):
    with pytest.raises(ModelError, match=model):
        KeywordSpotter(cli.chosen_model(Path(model)))
    assert caplog.records == []


def test_a_library_does_not_look_into_the_current_folder(shipped, caplog):
    shutil.copytree(shipped, "models/kws")
    assert "down" in KeywordSpotter().labels.keywords and caplog.records == []


@pytest.mark.parametrize("command", [["listen", "a.wav"], ["demo", "--write", "site"], ["serve-wyoming"],
                                     ["evaluate-streams", "."]])
def test_running_sound_is_heard_by_ones_own_model_too(shipped, command, capsys):
    Path("models/kws").mkdir(parents=True)  # without a model in it: who takes it says so
    assert main(command) == cli.EXIT_BAD_INPUT
    assert "models/kws/stream.onnx" in capsys.readouterr().err
