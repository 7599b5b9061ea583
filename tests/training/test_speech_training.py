"""A body learns words as clips and in running sound."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kws.config.architecture import load_architecture
from kws.config.sections import FeatureConfig
from kws.data.running_sound import Composer, Sources, Spoken
from kws.model.modeling import KwsForAudioClassification, build_model
from kws.training import speech_training
from kws.training.augment import Augmenter
from kws.training.speech_training import CosineClassifier, SpeechRecipe, _said, train_on_words
from kws.training.stream_training import RowTimes

RATE, SECONDS = 16_000, 2.5
WORDS = 4


def model() -> KwsForAudioClassification:
    torch.manual_seed(0)
    architecture = load_architecture(Path("configs/arch/nano.yaml")).as_json()
    return build_model(("_unknown_", "_silence_"), RATE, RATE, FeatureConfig().model_dump(),
                       {**architecture, "embedding": 16})


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    """[WORDS, 6, T] int16: every word is a tone of its own, with a little noise."""
    rng, times = np.random.default_rng(0), np.arange(RATE) / RATE
    voice = (times > 0.2) & (times < 0.8)
    tones = np.sin(2 * np.pi * (300.0 * 2.0 ** np.arange(WORDS))[:, None, None] * times) * voice
    return ((tones + 0.02 * rng.standard_normal((WORDS, 6, RATE))) * 8000).astype(np.int16)


@pytest.fixture(scope="module")
def composer(clips: np.ndarray) -> Composer:
    hum = (np.random.default_rng(1).standard_normal(4 * RATE) * 100).astype(np.int16)
    return Composer(Sources(list(clips), list(clips), [hum], [hum], shares=np.full(WORDS, 1 / WORDS)), RATE, SECONDS,
                    keyword_share=1.0, snr_db=(20.0, 30.0))


def taught(clips: np.ndarray, composer: Composer, steps: int) -> KwsForAudioClassification:
    augmenter = Augmenter(RATE, 50.0, 0.0, 0.0, (-3.0, 3.0), 0.0, (10.0, 20.0), 0, 0, 0, 0)
    return train_on_words(model(), clips.reshape(-1, RATE), np.repeat(np.arange(WORDS), clips.shape[1]), augmenter,
                          lambda generator, count: torch.zeros(count, RATE), composer,
                          SpeechRecipe(steps, 8, 3, SECONDS, 3e-3, seed=0))


def test_clips_and_running_sound_of_a_word_come_to_lie_in_its_direction(clips: np.ndarray, composer: Composer):
    trained = taught(clips, composer, 60).requires_grad_(False)
    alone = trained.network.embed(trained.features(torch.from_numpy(clips.reshape(-1, RATE) / np.float32(32768))))
    middles = F.normalize(alone.unflatten(0, (WORDS, -1)).mean(dim=1), dim=1)
    rng = np.random.default_rng(9)
    sounds, spoken = zip(*(composer.compose(rng) for _ in range(20)))
    running, said = _said(trained, torch.from_numpy(np.stack(sounds)), spoken, RowTimes(trained, SECONDS),
                          torch.Generator().manual_seed(0))
    assert len(said) > 10
    assert ((running @ middles.T).argmax(dim=1) == said).float().mean() > 0.9
    assert torch.allclose(alone.norm(dim=1), torch.ones(len(alone)))


def test_the_same_seed_trains_the_same_body(clips: np.ndarray, composer: Composer):
    first, again = (taught(clips, composer, 3).state_dict() for _ in range(2))
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not torch.equal(first["network.stem.0.weight"], model().state_dict()["network.stem.0.weight"])


@torch.inference_mode()
def test_a_word_in_running_sound_is_what_the_rows_at_its_end_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speech_training, "masked", lambda features, generator: features)  # with the mean of all of it
    untrained = model().eval()
    times = RowTimes(untrained, SECONDS)
    spoken = ([Spoken(2, 0.5, 1.0), Spoken(1, 1.9, 2.3)], [])  # the second one ends too late
    sounds = torch.randn(2, round(SECONDS * RATE), generator=torch.Generator().manual_seed(0)) * 0.1
    sounds[:, :RATE // 4] *= 5  # the loudest moment stays where it is
    found, said = _said(untrained, sounds, spoken, times, torch.Generator().manual_seed(0))
    assert said.tolist() == [2] and found.shape == (1, 16)
    nothing, nobody = _said(untrained, sounds, ([], []), times, torch.Generator().manual_seed(0))
    assert nothing.shape == (0, 16) and nobody.shape == (0,)
    changed = sounds.clone()
    changed[0, round(1.3 * RATE):] = 0.0  # nothing that is known by then depends on it
    torch.testing.assert_close(_said(untrained, changed, spoken, times, torch.Generator().manual_seed(0))[0], found)


def test_a_margin_asks_more_than_to_be_nearest():
    classifier = CosineClassifier(8, 3)
    with torch.no_grad():
        classifier.directions.copy_(torch.eye(3, 8) * 5)  # their length does not matter
    word = torch.eye(3, 8)
    without = F.cross_entropy(20.0 * torch.eye(3), torch.arange(3), label_smoothing=0.05)
    assert classifier.loss(word, torch.arange(3)).item() == pytest.approx(
        F.cross_entropy(20.0 * (torch.eye(3) * 0.9), torch.arange(3), label_smoothing=0.05).item(), abs=1e-5)
    assert without.item() != pytest.approx(classifier.loss(word, torch.arange(3)).item(), abs=1e-3)
