import numpy as np
import pytest

from kws.corpus.babble import crowds

RATE = 16000


@pytest.fixture(scope="module")
def clips():
    """Tones of one frequency a clip, between 200 and 4000 Hz, from loud to very quiet."""
    times = np.arange(RATE) / RATE
    levels = np.geomspace(20000, 20, 40)[:, None]
    return (levels * np.sin(2 * np.pi * np.linspace(200, 4000, 40)[:, None] * times)).astype(np.int16)


def spectral_peaks(window):
    power = np.abs(np.fft.rfft(window * np.hanning(len(window)))) ** 2
    middle = power[1:-1]
    return int(((middle > power[:-2]) & (middle > power[2:]) & (middle > power.max() / 100)).sum())


def test_crowds_are_audible_not_clipped_and_always_the_same(clips):
    first, second = crowds(clips, np.arange(40)), crowds(clips, np.arange(40))
    assert len(first) == 3
    for crowd, twin in zip(first, second):
        assert crowd.shape == (60 * RATE,) and crowd.dtype == np.float32
        assert np.abs(crowd).max() == pytest.approx(0.5)
        assert np.array_equal(crowd, twin)


def test_everybody_is_heard_at_all_times_quiet_recordings_too(clips):
    for crowd in crowds(clips, np.arange(40)):
        assert np.median([spectral_peaks(window) for window in crowd.reshape(60, RATE)]) >= 4


def test_voices_are_not_in_step(clips):
    bursts = np.zeros_like(clips)
    bursts[:, 7000:9000] = clips[:, 7000:9000]
    for crowd in crowds(bursts, np.arange(40)):
        envelope = np.square(crowd.reshape(60, 16, -1)).mean(axis=(0, 2))
        assert (envelope > envelope.max() / 50).sum() >= 8


def test_only_the_given_clips_are_heard(clips):
    one_speaks = np.where(np.arange(40)[:, None] == 3, clips, 0).astype(np.int16)
    assert all(crowd.any() for crowd in crowds(one_speaks, np.array([3])))
    assert not any(crowd.any() for crowd in crowds(one_speaks, np.delete(np.arange(40), 3)))


def test_silent_clips_and_none_do_no_harm():
    assert crowds(np.zeros((4, 800), np.int16), np.empty(0, int)) == []
    for crowd in crowds(np.zeros((4, 800), np.int16), np.arange(4)):
        assert not crowd.any()
