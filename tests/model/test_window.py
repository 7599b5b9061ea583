import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.model.window import loudest_start, pad_or_crop

LENGTHS = st.integers(0, 60)
WINDOWS = st.integers(1, 60)


@given(LENGTHS, WINDOWS)
def test_the_window_has_its_length_and_keeps_the_order(length, num_samples):
    waveform = np.arange(1, length + 1, dtype=np.float32)
    window = pad_or_crop(waveform, num_samples)
    assert len(window) == num_samples and window.dtype == waveform.dtype
    kept = window[window != 0]
    assert len(kept) == min(length, num_samples)
    assert (np.diff(kept) == 1).all()


@given(LENGTHS, WINDOWS)
def test_both_sides_lose_or_gain_alike(length, num_samples):
    window = pad_or_crop(np.arange(1, length + 1), num_samples)
    inside = np.flatnonzero(window)
    if length <= num_samples and length:
        assert abs(inside[0] - (num_samples - 1 - inside[-1])) <= 1
    elif length:
        assert abs((window[0] - 1) - (length - window[-1])) <= 1


@given(LENGTHS, WINDOWS)
def test_fitting_twice_changes_nothing(length, num_samples):
    window = pad_or_crop(np.arange(1, length + 1), num_samples)
    np.testing.assert_array_equal(pad_or_crop(window, num_samples), window)


@pytest.mark.parametrize("length", [0, 1, 15999, 16000, 16001, 48000])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_awkward_lengths(length, dtype):
    window = pad_or_crop(np.ones(length, dtype), 16000)
    assert window.shape == (16000,) and window.dtype == dtype and window.sum() == min(length, 16000)


def test_a_recording_of_the_right_length_is_not_copied():
    waveform = np.zeros(100, np.float32)
    assert np.shares_memory(pad_or_crop(waveform, 100), waveform)


@pytest.mark.parametrize("begins", [0, 5000, 16000, 30000, 40000])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_loudest_window_has_the_word_in_its_middle(noise, begins, offset):
    waveform = noise(0, 3.0, amplitude=0.001)
    waveform[begins:begins + 8000] += noise(1, 0.5, amplitude=0.2)
    start = loudest_start(waveform + np.float32(offset), 16000)
    assert start == pytest.approx(np.clip(begins - 4000, 0, 32000), abs=200)
    assert start <= begins and begins + 8000 <= start + 16000  # nothing of the word is lost


def test_of_two_words_the_louder_one_is_taken(noise):
    waveform = np.zeros(64000, np.float32)
    waveform[8000:16000], waveform[40000:48000] = noise(0, 0.5, amplitude=0.1), noise(1, 0.5, amplitude=0.2)
    assert 32000 <= loudest_start(waveform, 16000) <= 40000
    assert loudest_start((waveform * 32767).astype(np.int16), 16000) == pytest.approx(36000, abs=300)


@pytest.mark.parametrize("length, num_samples, start", [(0, 10, 0), (9, 10, 0), (10, 10, 0), (48000, 16000, 16000)])
@pytest.mark.parametrize("level", [0.0, 0.25])
def test_without_a_loudest_window_the_middle_is_taken(length, num_samples, start, level):
    assert loudest_start(np.full(length, level, np.float32), num_samples) == start


@given(st.integers(1, 60), WINDOWS, st.integers(0, 2**32 - 1))
def test_the_window_lies_inside_and_is_as_loud_as_the_loudest(length, num_samples, seed):
    waveform = np.random.default_rng(seed).standard_normal(length)
    waveform -= waveform.mean()
    start = loudest_start(waveform, num_samples)
    assert 0 <= start <= max(length - num_samples, 0)
    last = max(length - num_samples, 0)
    energies = [np.square(waveform[first:first + num_samples]).sum() for first in range(last + 1)]
    assert energies[start] >= 0.97 * max(energies)
