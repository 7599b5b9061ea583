import numpy as np
import pytest
from scipy.signal import welch

from kws.corpus.noises import sounds


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_sounds_are_audible_not_clipped_and_always_the_same(sample_rate):
    first, second = sounds(sample_rate, 3.0), sounds(sample_rate, 3.0)
    assert len(first) == 7
    for sound, twin in zip(first, second):
        assert sound.dtype == np.float32 and len(sound) == 3 * sample_rate
        assert np.abs(sound).max() == pytest.approx(0.5) and np.isfinite(sound).all()
        assert np.array_equal(sound, twin)


def test_no_two_are_alike():
    made = sounds(16000, 3.0)
    alike = np.abs(np.corrcoef(made)) > 0.9
    assert alike.sum() == len(made)


def test_a_hum_and_a_rumble_are_low_and_a_whistle_is_higher():
    _, _, hum, _, whistle, _, rumble = sounds(16000)
    for sound, low, high in ((hum, 0, 1500), (whistle, 300, 3100), (rumble, 0, 500)):
        frequencies, power = welch(sound, 16000, nperseg=4096)
        assert power[(frequencies > low) & (frequencies < high)].sum() > 0.9 * power.sum()


def test_a_kind_changes_from_variant_to_variant():
    for sound in sounds(16000):
        variants = np.abs(np.fft.rfft(sound.reshape(5, -1)))
        alike = np.corrcoef(variants) > 0.99
        assert alike.sum() == len(variants)
