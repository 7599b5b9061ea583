"""A body for own words is made of a network that was trained on other words, and `kws train` starts from it."""
import soundfile
import yaml

import speech_body
from kws.__main__ import main
from kws.commands.cli import EXIT_OK
from kws.model.folder import BODY
from kws.training.body import load_others


def test_a_trained_network_becomes_a_body(exported, corpus, tmp_path, noise, monkeypatch, capsys):
    root = corpus()
    sound = tmp_path / "sound"
    sound.mkdir()
    soundfile.write(sound / "talk.wav", noise(1, 10.0), 16000)
    config = tmp_path / "words.yaml"
    config.write_text(yaml.safe_dump({"data": {"root": str(root), "prepared": str(tmp_path / "words"),
                                               "keywords": ["yes", "no"]}}))
    assert main(["prepare", str(config)]) == EXIT_OK
    monkeypatch.setattr(speech_body, "_PIECES", 3)
    body = tmp_path / "body"
    assert speech_body.main([str(exported), "--config", str(config), "--sound", str(sound),
                             "--destination", str(body)]) == EXIT_OK
    others = load_others(body)
    assert set(others.names) >= {"yes", "no"} and len(others.names) == len(others.words)
    assert len(others.moments) > 10 and others.within.shape == (others.words.shape[1],) * 2
    own = [word for value in (f"data.root={root}", 'data.keywords=["yes", "no"]', f"data.prepared={tmp_path / 'own'}",
                              f"training.model={tmp_path / 'model'}", f"training.start_from={body}",
                              "tracking.enabled=false") for word in ("--set", value)]
    assert main(["prepare", str(body / "own.yaml"), *own]) == EXIT_OK
    assert main(["train", str(body / "own.yaml"), *own]) == EXIT_OK
    assert "left out in turn" in capsys.readouterr().out


def test_the_recipe_in_the_clone_is_the_one_in_the_package():
    with open("configs/own.yaml") as file:
        assert file.read() == (BODY / "own.yaml").read_text()
