"""Composed sound: words lie where they are said to lie, and hours without them hold none."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kws.data.running_sound import Composer, Sources, has_voice

RATE = 16_000


def tone(frequency: float, seconds: float) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.int16)


@pytest.fixture
def sources() -> Sources:
    words = [np.stack([np.pad(tone(frequency, 0.4), 4800)]) for frequency in (500, 1000)]
    other, talk = np.stack([np.pad(tone(250, 0.5), 4000)]), tone(150, 20)
    noise = np.random.default_rng(0).integers(-300, 300, size=5 * RATE).astype(np.int16)
    return Sources(words, [other], [talk], [noise])


def test_equal_seeds_compose_alike(sources: Sources):
    composer = Composer(sources, RATE, 4.0)
    first, second = (composer.compose(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_a_composition_is_full_scale_at_most_and_of_its_length(sources: Sources):
    composer, rng = Composer(sources, RATE, 3.0), np.random.default_rng(1)
    for _ in range(40):
        sound, _ = composer.compose(rng)
        assert (sound.shape, sound.dtype) == ((3 * RATE,), np.float32)
        assert np.isfinite(sound).all() and np.abs(sound).max() <= 1


def test_words_are_where_they_are_said_to_be(sources: Sources):
    composer, rng = Composer(sources, RATE, 4.0, keyword_share=1.0, speed=0.0, snr_db=(30.0, 30.0)), \
        np.random.default_rng(2)
    seen = 0
    for _ in range(20):
        sound, spoken = composer.compose(rng)
        for word in spoken:
            assert 0 <= word.start < word.end <= 4.0
            assert word.end - word.start == pytest.approx(0.4, abs=0.05)
            inside = sound[round(word.start * RATE) + 800:round(word.end * RATE) - 800]
            spectrum = np.abs(np.fft.rfft(inside * np.hanning(len(inside))))
            assert spectrum.argmax() * RATE / len(inside) == pytest.approx((500, 1000)[word.keyword], abs=12)
            seen += 1
    assert seen > 20


def test_keywords_are_drawn_by_their_shares(sources: Sources):
    rng, drawn = np.random.default_rng(4), []
    for shares in (None, np.array([0.9, 0.1]), np.array([0.0, 1.0])):
        composer = Composer(replace(sources, shares=shares), RATE, 4.0, keyword_share=1.0)
        said = [word.keyword for _ in range(60) for word in composer.compose(rng)[1]]
        drawn.append(np.mean(said))
    assert 0.35 < drawn[0] < 0.65 and 0.02 < drawn[1] < 0.25 and drawn[2] == 1.0


def test_without_keywords_none_is_said(sources: Sources):
    composer, rng = Composer(sources, RATE, 4.0, keyword_share=0.0), np.random.default_rng(3)
    assert all(composer.compose(rng)[1] == [] for _ in range(20))


def test_rows_of_other_words_stand_in_for_talk(sources: Sources):
    composer = Composer(replace(sources, speech=[]), RATE, 4.0, keyword_share=0.0)
    sounds = [composer.compose(np.random.default_rng(seed))[0] for seed in range(10)]
    assert all(np.isfinite(sound).all() for sound in sounds)
    assert sum(np.abs(sound).max() > 0.001 for sound in sounds) == 10


def test_keywords_alone_are_said_into_noise(sources: Sources):
    composer, rng = Composer(replace(sources, others=[], speech=[]), RATE, 4.0), np.random.default_rng(6)
    composed = [composer.compose(rng) for _ in range(20)]
    assert all(np.abs(sound).max() > 0 for sound, _ in composed)
    assert {word.keyword for _, spoken in composed for word in spoken} == {0, 1}


@pytest.mark.parametrize("clip, expected", [
    (tone(500, 0.4), True), (tone(500, 0.08), False), (tone(500, 0.4) // 100, True), (tone(500, 0.4) // 200, False)])
def test_a_voice_is_long_and_loud_enough(clip: np.ndarray, expected: bool):
    silence = np.zeros(RATE, np.int16)
    clips = np.stack([silence, np.pad(clip, (100, RATE - 100 - len(clip)))])
    assert has_voice(clips, RATE) == expected


def test_recordings_shorter_than_a_composition_will_do(sources: Sources):
    short = Sources(sources.keywords, sources.others, [tone(150, 1)], [tone(60, 0.5)])
    composer, rng = Composer(short, RATE, 4.0), np.random.default_rng(4)
    assert all(len(composer.compose(rng)[0]) == 4 * RATE for _ in range(20))
