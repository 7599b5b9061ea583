"""Which takes are kept, and what of them."""
import numpy as np
import pytest

from kws.audio.recording.quality import clip_of, fault_of, level_db
from kws.audio.recording.takes import Take

RATE = 16000


def take(seconds=0.5, level=-20.0, before=0.5, after=0.5, floor_db=-60.0, **changes):
    """A tone with a fade at both ends, in digital silence."""
    size = round(seconds * RATE)
    tone = np.sin(np.arange(size) * 0.2) * np.minimum(1, np.minimum(np.arange(size), np.arange(size)[::-1]) / 800)
    samples = np.concatenate([np.zeros(round(before * RATE)), 10**(level / 20) * np.sqrt(2) * tone,
                              np.zeros(round(after * RATE))]).astype(np.float32)
    start = round(before * RATE)
    return Take(samples, RATE, start, start + size, 1.0, floor_db, **changes)


def test_a_good_take_has_no_fault():
    assert fault_of(take(), 1.0) is None and level_db(take()) == pytest.approx(-20, abs=0.2)


@pytest.mark.parametrize("wrong, why", [
    (take(cut="beginning"), "cut off at its beginning"), (take(cut="end"), "cut off at its end"),
    (take(level=-50), "speak up"), (take(level=-25, floor_db=-30), "quieter place"),
    (take(seconds=0.08), "too short"), (take(seconds=1.3), "too long (1.30 s) for 1 s"),
    (take(seconds=5.05), "without a pause"),
])
def test_a_fault_says_what_helps(wrong, why):
    assert why in fault_of(wrong, 1.0)


@pytest.mark.parametrize("gain", [1.0, 0.5, 0.2])
def test_clipping_is_seen_wherever_it_happened(gain):
    loud = take(level=0.0)
    clipped = np.clip(loud.samples * 2, -1, 1) * gain
    wrong = Take(clipped.astype(np.float32), RATE, loud.start, loud.end, 0.0, -60.0)
    assert "clipped" in fault_of(wrong, 1.0)


@pytest.mark.parametrize("window", [0.3, 0.7, 1.0, 1.2, 1.5])
@pytest.mark.parametrize("before, after", [(0.5, 0.5), (0.05, 0.5), (0.5, 0.05), (0.0, 0.0)])
def test_a_clip_has_the_sound_in_the_middle_as_far_as_the_pauses_reach(window, before, after):
    whole = take(0.3, before=before, after=after)
    clip = clip_of(whole, window)
    assert len(clip) == min(round(window * RATE), len(whole.samples))
    found = np.flatnonzero(clip)
    assert len(found) >= 0.99 * 0.3 * RATE, "all of it is there"
    if before == after:
        assert (found[0] + found[-1]) / 2 == pytest.approx(len(clip) / 2, abs=RATE * 0.01)


def test_breath_beyond_the_window_may_be_cut_off_but_not_a_syllable():
    whole = take(0.8)
    rng = np.random.default_rng(0)
    breath = np.concatenate([0.002 * rng.standard_normal(6000), whole.sound]).astype(np.float32)
    long = Take(np.pad(breath, 8000), RATE, 8000, 8000 + len(breath), 0.0, -70.0)
    assert long.seconds > 1.0 and fault_of(long, 1.0) is None
    clip = clip_of(long, 1.0)
    assert len(clip) == RATE and np.square(clip).sum() > 0.99 * np.square(whole.samples).sum()
    assert "too long" in fault_of(long, 0.6)


def test_a_soft_end_belongs_to_the_word():
    whole = take(0.8, level=-15)
    hiss = 10**(-40 / 20) * np.random.default_rng(0).standard_normal(4800)
    sound = np.concatenate([whole.sound, np.zeros(1600), hiss]).astype(np.float32)
    long = Take(np.pad(sound, 8000), RATE, 8000, 8000 + len(sound), 0.0, -70.0)
    assert "too long (1.20 s)" in fault_of(long, 1.0) and fault_of(long, 1.2) is None
