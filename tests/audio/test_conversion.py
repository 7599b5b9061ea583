"""Channels and rates of running sound: the same for any blocks as for the whole."""
import numpy as np
import pytest
import soxr

from kws.audio.conversion import Converter


def converted(sound, rate, size):
    converter = Converter(rate, 16000)
    blocks = [converter.convert(sound[first:first + size]) for first in range(0, len(sound), size)]
    return np.concatenate([*blocks, converter.finish()])


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("size", [1, 441, 4800])
def test_blocks_of_any_size_make_the_same_sound(noise, rate, size):
    sound = np.stack([noise(1, 0.3, rate), noise(2, 0.3, rate)], axis=1)
    expected = soxr.resample(sound.mean(axis=1), rate, 16000, quality="HQ")
    found = converted(sound, rate, size)
    assert found.dtype == np.float32 and len(found) == len(expected) and np.allclose(found, expected, atol=1e-5)


def test_channels_that_cancel_each_other_are_not_averaged(noise):
    one = noise(1, 2.0)
    found = converted(np.stack([one, -0.9 * one], axis=1), 16000, 800)
    assert np.allclose(found, one, atol=1e-6)


def test_unrelated_channels_and_silence_are_averaged(noise):
    sound = np.stack([noise(1, 2.0), noise(2, 2.0), noise(3, 2.0)], axis=1)
    sound[:16000] *= 1e-6
    assert np.allclose(converted(sound, 16000, 800), sound.mean(axis=1), atol=1e-6)
