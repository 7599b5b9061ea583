"""A body for own words is trained on other words, and `kws train` starts from it."""
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

import speech_body
from kws.__main__ import main
from kws.commands.cli import EXIT_OK
from kws.errors import ConfigError
from kws.model.folder import BODY, SHIPPED
from kws.model.loading import load_torch_model
from kws.training.body import load_others

pytestmark = pytest.mark.usefixtures("backgrounds_made_once")


@pytest.fixture
def arguments(corpus, no_pictures, tmp_path, noise):
    """To train a body on a small corpus, which is prepared."""
    root, sound, config = corpus(), tmp_path / "sound", tmp_path / "words.yaml"
    sound.mkdir()
    soundfile.write(sound / "talk.wav", noise(1, 10.0), 16000)
    settings = yaml.safe_load(Path("configs/speech.yaml").read_text())
    settings["data"] |= {"root": str(root), "prepared": str(tmp_path / "words")}
    settings["training"] |= {"batch_size": 8}
    settings["streams"] |= {"steps": 3, "batch_size": 2}
    config.write_text(yaml.safe_dump(settings))
    assert main(["prepare", str(config)]) == EXIT_OK
    return [str(config), "--sound", str(sound), "--destination", str(tmp_path / "body")]


def test_a_body_is_trained_and_own_words_start_from_it(arguments, tmp_path, capsys):
    body = tmp_path / "body"
    assert speech_body.main(arguments) == EXIT_OK
    others = load_others(body)
    assert set(others.names) >= {"yes", "no", "bed"} and len(others.names) == len(others.words)
    lengths = np.linalg.norm(np.concatenate([others.words, others.silence]), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=0.1)  # but for the steps that they are kept in
    own = [word for value in (f"data.root={tmp_path / 'data'}", 'data.keywords=["yes", "no"]',
                              f"data.prepared={tmp_path / 'own'}", f"training.model={tmp_path / 'model'}",
                              f"training.start_from={body}", "tracking.enabled=false") for word in ("--set", value)]
    assert main(["prepare", str(body / "own.yaml"), *own]) == EXIT_OK
    assert main(["train", str(body / "own.yaml"), *own]) == EXIT_OK
    assert "left out in turn" in capsys.readouterr().out


def test_a_body_is_trained_on(arguments, tmp_path):
    assert speech_body.main(arguments) == EXIT_OK
    first, again = tmp_path / "body", tmp_path / "again"
    changed = ["--set", f"training.start_from={first}", "--set", "training.learning_rate=1e-12"]
    assert speech_body.main([*arguments[:-1], str(again), *changed]) == EXIT_OK
    before, after = load_torch_model(first).state_dict(), load_torch_model(again).state_dict()
    weights = [name for name, weight in before.items() if weight.ndim > 1 and "head" not in name]
    assert weights and all(torch.allclose(before[name], after[name], atol=1e-3) for name in weights)


def test_a_network_without_an_embedding_is_refused(arguments, tmp_path):
    for setting, named in (("architecture=configs/arch/base.yaml", "configs/arch/base.yaml"),
                           (f"training.start_from={SHIPPED}", str(SHIPPED))):
        with pytest.raises(ConfigError, match=f"{named}: embedding: found none"):
            speech_body.main([*arguments, "--set", setting])
    assert not (tmp_path / "body").exists()


def test_the_recipe_in_the_clone_is_the_one_in_the_package():
    with open("configs/own.yaml") as file:
        assert file.read() == (BODY / "own.yaml").read_text()
