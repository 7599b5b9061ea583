import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.window import fit

LENGTHS = st.integers(0, 60)
WINDOWS = st.integers(1, 60)


@given(LENGTHS, WINDOWS)
def test_the_window_has_its_length_and_keeps_the_order(length, num_samples):
    waveform = np.arange(1, length + 1, dtype=np.float32)
    window = fit(waveform, num_samples)
    assert len(window) == num_samples and window.dtype == waveform.dtype
    kept = window[window != 0]
    assert len(kept) == min(length, num_samples)
    assert (np.diff(kept) == 1).all()


@given(LENGTHS, WINDOWS)
def test_both_sides_lose_or_gain_alike(length, num_samples):
    window = fit(np.arange(1, length + 1), num_samples)
    inside = np.flatnonzero(window)
    if length <= num_samples and length:
        assert abs(inside[0] - (num_samples - 1 - inside[-1])) <= 1
    elif length:
        assert abs((window[0] - 1) - (length - window[-1])) <= 1


@given(LENGTHS, WINDOWS)
def test_fitting_twice_changes_nothing(length, num_samples):
    window = fit(np.arange(1, length + 1), num_samples)
    np.testing.assert_array_equal(fit(window, num_samples), window)


@pytest.mark.parametrize("length", [0, 1, 15999, 16000, 16001, 48000])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_awkward_lengths(length, dtype):
    window = fit(np.ones(length, dtype), 16000)
    assert window.shape == (16000,) and window.dtype == dtype and window.sum() == min(length, 16000)


def test_a_recording_of_the_right_length_is_not_copied():
    waveform = np.zeros(100, np.float32)
    assert np.shares_memory(fit(waveform, 100), waveform)
