"""Takes in running sound."""
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.recording.quality import clip_of, fault_of
from kws.audio.recording.takes import LONGEST_SECONDS, TakeFinder

RATE = 16000


def find(sound, piece=None):
    finder = TakeFinder(RATE)
    pieces = [sound] if piece is None else [sound[first:first + piece] for first in range(0, len(sound), piece)]
    return [take for part in pieces for take in finder.feed(part)] + finder.finish()


def sine(seconds, hz=300.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def word(seconds, seed=0):
    """Something like a word: a soft hiss, a hum with overtones that swells and fades, a closure, a burst."""
    generator = np.random.default_rng(seed)
    size = round(seconds * RATE)
    vowel = sum(sine(seconds, 130.0 * overtone)[:size] / overtone for overtone in (1, 2, 3, 5, 8, 13, 21))
    place = np.arange(size) / size
    envelope = np.interp(place, [0, 0.15, 0.3, 0.7, 0.8, 1], [0, 0.1, 1, 0.8, 0, 0])
    hiss = np.interp(place, [0, 0.05, 0.2, 0.25, 0.9, 0.92, 1], [0.1, 0.15, 0.15, 0, 0, 0.3, 0.1])
    sound = envelope * vowel + hiss * generator.standard_normal(size)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def room(seconds, level_db=-60.0, seed=0):
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (10**(level_db / 20) * noise).astype(np.float32)


def with_words(sound, starts, seconds=0.5, level_db=-25.0):
    sound = sound.copy()
    for number, start in enumerate(starts):
        said = word(seconds, number)
        first = round(start * RATE)
        sound[first:first + len(said)] += 10**(level_db / 20) * said
    return sound


def span(take):
    return take.at_seconds + take.start / RATE, take.at_seconds + take.end / RATE


def test_each_stretch_of_sound_between_pauses_is_a_take():
    starts = [1.0, 2.2, 4.0, 5.1]
    takes = find(with_words(room(7), starts))
    assert [span(take)[0] for take in takes] == pytest.approx(starts, abs=0.05)
    assert [span(take)[1] for take in takes] == pytest.approx([start + 0.5 for start in starts], abs=0.05)
    assert all(take.cut == "" and take.floor_db == pytest.approx(-61, abs=3) for take in takes)


@settings(max_examples=40, deadline=None)
@given(start=st.floats(0.2, 3.0), seconds=st.floats(0.3, 0.9), snr_db=st.floats(10, 60),
       level_db=st.floats(-40, -15), seed=st.integers(0, 99))
def test_a_word_is_whole_in_its_clip(start, seconds, snr_db, level_db, seed):
    sound = with_words(room(5, level_db - snr_db, seed), [start], seconds, level_db)
    take, = find(sound)
    clip = clip_of(take, 1.0)
    begins = round(take.at_seconds * RATE) + locate(clip, take.samples)
    lost = 0.03 if seconds > 0.8 and snr_db < 12 else 0.01  # noise may hide the burst that a long word ends with
    assert begins <= (start + lost) * RATE and begins + len(clip) >= (start + seconds - lost) * RATE
    assert len(clip) <= RATE and np.array_equal(clip, sound[begins:begins + len(clip)])


def locate(part, whole):
    windows = np.lib.stride_tricks.sliding_window_view(whole, len(part))
    return int(np.flatnonzero((windows[:, :50] == part[:50]).all(axis=1))[0])


@settings(max_examples=15, deadline=None)
@given(piece=st.integers(1, 40000), seed=st.integers(0, 9))
def test_pieces_make_no_difference(piece, seed):
    sound = with_words(room(4, -50, seed), [0.7, 2.0, 3.45])
    whole, pieces = find(sound), find(sound, max(piece, 37))
    assert [(span(take), take.cut, take.floor_db) for take in whole] == [
        (span(take), take.cut, take.floor_db) for take in pieces]
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(whole, pieces))


@pytest.mark.parametrize("sound", [
    np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(159, np.float32), np.zeros(5 * RATE, np.float32),
    np.full(5 * RATE, 0.3, np.float32), room(20), room(20, -20), room(5, -95),
    np.concatenate([np.zeros(RATE, np.float32), room(6, -60)]),  # a device that starts with zeros
    0.2 * sine(10, 50).astype(np.float32) + room(10),  # hum
], ids=["nothing", "a sample", "less than a hop", "zeros", "offset", "noise", "loud noise", "converter", "late", "hum"])
def test_there_is_no_take_in(sound):
    assert find(sound) == []


def test_offset_hum_and_clicks_do_not_count():
    sound = with_words(room(8), [2.0, 5.0])
    clicks = np.zeros(len(sound), np.float32)
    clicks[[RATE // 2, 4 * RATE, 4 * RATE + 9000, 7 * RATE]] = 0.9
    clicks[7 * RATE:7 * RATE + 40] = -0.9
    takes = find(sound + 0.1 + 0.05 * sine(8, 50).astype(np.float32) + clicks)
    assert [span(take)[0] for take in takes] == pytest.approx([2.0, 5.0], abs=0.06)


def test_an_echo_that_fades_and_the_breath_before_it_do_not_lengthen_a_word():
    sound = with_words(room(5, -75), [2.0], level_db=-15)
    breath = np.random.default_rng(1).standard_normal(4800) * np.hanning(4800) * 10**(-62 / 20)
    sound[round(1.75 * RATE):round(1.75 * RATE) + 4800] += breath.astype(np.float32)
    take, = find(sound)
    assert span(take) == pytest.approx((2.0, 2.5), abs=0.05)


@pytest.mark.parametrize("start, cut", [(0.0, "beginning"), (2.5, "end"), (1.0, "")])
def test_sound_that_goes_on_beyond_the_recording_is_cut(start, cut):
    sound = with_words(room(3), [start])
    take, = find(sound)
    assert take.cut == cut and bool(fault_of(take, 1.0)) == bool(cut)


def test_sound_without_a_pause_is_given_out_in_parts_that_are_no_takes():
    sound = room(25)
    sound[2 * RATE:20 * RATE] += np.tile(10**(-20 / 20) * word(0.5), 36)
    takes = find(with_words(sound, [22.0]))
    assert len(takes) >= 3 and all(take.seconds <= LONGEST_SECONDS + 0.2 for take in takes)
    assert [fault_of(take, 1.0) is None for take in takes] == [False] * (len(takes) - 1) + [True]


def test_noise_that_comes_with_the_word_is_not_the_word():
    """A gate, or clips that were joined with zeros."""
    sound = np.zeros(8 * RATE, np.float32)
    for start in (1.0, 3.0, 5.5):
        first = round(start * RATE)
        sound[first:first + RATE] = with_words(room(1, -50, int(start)), [0.3], 0.4)
    takes = find(sound)
    assert [span(take)[0] for take in takes] == pytest.approx([1.3, 3.3, 5.8], abs=0.06)
    assert [take.seconds for take in takes] == pytest.approx([0.4] * 3, abs=0.1)


def test_a_fan_that_is_switched_on_is_no_word():
    sound = room(12, -65)
    sound[4 * RATE:] += room(8, -45, 1)
    takes = find(with_words(sound, [2.0, 7.0, 9.0]))
    good = [take for take in takes if fault_of(take, 1.0) is None]
    assert [span(take)[0] for take in good] == pytest.approx([2.0, 7.0, 9.0], abs=0.06)


@pytest.mark.parametrize("between", ["zeros", "noise"])
def test_real_recordings_joined_with_pauses_are_taken_apart(between, real_speech):
    generator = np.random.default_rng(5)
    paths = [path for name in ("happy", "left", "six") for path in sorted((real_speech / name).glob("*.flac"))[:20]]
    parts = [np.zeros(RATE // 2, np.float32)]
    for path in paths:
        parts += [soundfile.read(path, dtype="float32")[0],
                  np.zeros(generator.integers(RATE // 2, RATE), np.float32)]
    sound = np.concatenate(parts)
    takes = find(sound + room(len(sound) / RATE, -60) if between == "noise" else sound)
    good = [take for take in takes if fault_of(take, 1.0) is None]
    assert abs(len(takes) - len(paths)) <= 4 and len(good) >= 0.85 * len(paths)
