"""Find takes in running sound by their energy: each stretch of sound between two pauses is one.

Four bands are compared with their own noise floors, so that a soft "s" counts over rumble and a vowel over hiss. What
is found depends on the sound alone, not on the pieces that it comes in.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONTEXT_SECONDS = 0.5  # of what is around a take, at most, that is kept with it
LONGEST_SECONDS = 5.0  # of sound without a pause, after which it is given out as it is
_HOP_SECONDS = 0.01
_HOPS_A_STEP = 10  # takes are looked for so often
_PAUSE_HOPS = 30  # between takes; within a word the closure of a stop lasts up to 0.15 s
_CONTEXT_HOPS = round(CONTEXT_SECONDS / _HOP_SECONDS)
_LONGEST_HOPS = round(LONGEST_SECONDS / _HOP_SECONDS)
_KEPT_HOPS = 1000  # of sound and its levels; the noise floor is that of this time
_BANDS_HZ = (100, 500, 1500, 4000, 7500)  # edges; below are offsets, hum and wind
_SMOOTHED_HOPS = 3
_FLOOR_PERCENT = 10.0  # of the time: speakers pause for longer than this
_SILENCE_DB = -120.0  # power of a band in dBFS, of zeros
_LOWEST_DB = -85.0  # of a noise floor: below is the noise of converters
_ABOVE_DB = 7.0  # over the noise floor: sound
_CLEARLY_DB = 11.0  # over it, for as long as a short vowel: a take
_CLEARLY_HOPS = 5
_BELOW_PEAK_DB = 40.0  # under a take's loudest: its echo
_CLICK_HOPS = 8  # sound that is shorter, smoothing included, and
_LONELY_HOPS = 16  # has none so near, is a click; the burst at the end of "eight" is nearer
_RIM_HOPS = 2  # of a run, which smoothing makes quieter
_RAISED_DB = 3.0  # over the noise floor, in all bands for a whole run: noise that began with it
_LEAST_TO_FLOOR_DB = 3.0  # from the least level of noise to what is its floor
_EDGE_HOPS = 3  # sound so near to where the recording begins or ends goes on beyond it


@dataclass(frozen=True)
class Take:
    """A stretch of sound and the pauses around it.

    Args:
        samples: [T] float32, mono.
        sample_rate: Hz.
        start, end: first sample of the sound, and the one after its last.
        at_seconds: time of the first of `samples`, from the start of the stream.
        floor_db: level of the pauses, dBFS.
        cut: which end of the sound is missing: "beginning", "end" or "".
    """

    samples: np.ndarray
    sample_rate: int
    start: int
    end: int
    at_seconds: float
    floor_db: float
    cut: str = ""

    @property
    def sound(self) -> np.ndarray:
        """The sound without the pauses, [end - start]."""
        return self.samples[self.start:self.end]

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return (self.end - self.start) / self.sample_rate


class TakeFinder:
    """Finds takes in sound that comes in pieces; the length of the pieces makes no difference.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate, self._hop = sample_rate, round(_HOP_SECONDS * sample_rate)
        self.reset()

    def reset(self) -> None:
        """Forget all sound, as after a gap; the next sample is number 0."""
        self._waiting = np.empty(0, dtype=np.float32)  # less than a step
        self._samples = np.empty(0, dtype=np.float32)  # whole hops
        self._levels = np.empty((0, len(_BANDS_HZ) - 1))  # [hops, bands], of `_samples`
        self._first = 0  # hop of the stream that `_samples` begin with
        self._searched = 0  # hop of the stream up to which takes were given out
        self._goes_on = True  # whether sound there goes on from before

    @property
    def floor_db(self) -> float:
        """Level of the quietest tenth of the last seconds, dBFS."""
        return _total(_floor(self._levels))

    def feed(self, samples: np.ndarray) -> list[Take]:
        """Take the next [T] float32; return the takes that are complete now."""
        step, takes = _HOPS_A_STEP * self._hop, []
        self._waiting = np.concatenate([self._waiting, samples])
        steps = len(self._waiting) // step
        for index in range(steps):
            self._add(self._waiting[index * step:(index + 1) * step])
            takes += self._complete(is_end=False)
            self._forget()
        self._waiting = self._waiting[steps * step:]
        return takes

    def finish(self) -> list[Take]:
        """End the sound; return the takes that its end completes."""
        self._add(self._waiting[:len(self._waiting) // self._hop * self._hop])
        takes = self._complete(is_end=True)
        self.reset()
        return takes

    def _add(self, samples: np.ndarray) -> None:
        known = len(self._levels) * self._hop
        self._samples = np.concatenate([self._samples, samples])
        self._levels = np.concatenate([self._levels, _levels(self._samples[known:], self._hop, self.sample_rate)])

    def _forget(self) -> None:
        surplus = len(self._samples) // self._hop - _KEPT_HOPS
        if surplus > 0:
            self._samples, self._levels = self._samples[surplus * self._hop:], self._levels[surplus:]
            self._first += surplus

    def _complete(self, is_end: bool) -> list[Take]:
        """Give out what has ended; what lasts too long ends here."""
        floor, first = _floor(self._levels), max(self._searched - self._first, 0)
        stretches = _stretches(self._levels, floor, first, self._goes_on)
        now, takes = len(self._levels), []
        for (start, end), following in zip(stretches, [*(start for start, _ in stretches[1:]), now]):
            has_ended = following < now or now - end >= _CONTEXT_HOPS
            if not (has_ended or is_end or now - start > _LONGEST_HOPS):
                break
            before, after = max(start - _CONTEXT_HOPS, first), min(end + _CONTEXT_HOPS, following)
            cut = "beginning" if self._goes_on and start - first < _EDGE_HOPS else (
                "end" if now - end < _EDGE_HOPS else "")
            takes.append(Take(self._samples[before * self._hop:after * self._hop], self.sample_rate,
                              (start - before) * self._hop, (end - before) * self._hop,
                              (self._first + before) * _HOP_SECONDS, _total(floor), cut))
            self._searched, self._goes_on, first = self._first + end, now - end < _EDGE_HOPS, end
        return takes


def _levels(samples: np.ndarray, hop: int, sample_rate: int) -> np.ndarray:
    """Measure bands around each hop but the last: [T] -> [T // hop - 1, bands], dBFS.

    Frames have two hops.
    """
    if len(samples) < 2 * hop:
        return np.empty((0, len(_BANDS_HZ) - 1))
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * hop)[::hop]
    window = np.hanning(2 * hop)
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=1))) * (2 / np.sum(window)**2)
    edges = np.round(np.array(_BANDS_HZ) * 2 * hop / sample_rate).astype(int)
    bands = np.add.reduceat(power, edges, axis=1)[:, :-1]
    return 10 * np.log10(np.maximum(bands, 10**(_SILENCE_DB / 10)))


def _floor(levels: np.ndarray) -> np.ndarray:
    """Find the noise floor of each band, [hops, bands] -> [bands]; zeros before the first sound are no noise."""
    heard = np.flatnonzero(levels.max(axis=1, initial=_SILENCE_DB) > _SILENCE_DB)
    if not len(heard):
        return np.full(levels.shape[1], _LOWEST_DB)
    return np.maximum(np.percentile(levels[heard[0]:], _FLOOR_PERCENT, axis=0), _LOWEST_DB)


def _total(levels: np.ndarray) -> float:
    """Add the powers of bands, in decibels."""
    return float(10 * np.log10(np.sum(10**(levels / 10))))


def _stretches(levels: np.ndarray, floor: np.ndarray, first: int, goes_on: bool) -> list[tuple[int, int]]:
    """Find the takes from the hop `first` on: (first hop, hop after the last) of each.

    Sound that began before it is left out, or its rest is a take where it `goes_on`.
    """
    if len(levels) <= first:
        return []
    smooth = _smoothed(levels)
    total = 10 * np.log10(np.sum(10**(smooth / 10), axis=1))
    above = np.max(smooth - floor, axis=1)
    for start, end in _runs(above >= _ABOVE_DB):
        above[start:end] = _above_own_floor(smooth[start:end], floor, above[start:end])
    runs = [(max(start, first), end) for start, end in _runs(above >= _ABOVE_DB)
            if start >= first or goes_on and end > first]
    found = []
    for start, end in _joined(_without_clicks(runs)):
        if _is_clear(above[start:end]):
            loud = start + np.flatnonzero(total[start:end] >= total[start:end].max() - _BELOW_PEAK_DB)
            found.append((int(loud[0]), int(loud[-1]) + 1))
    return found


def _above_own_floor(smooth: np.ndarray, floor: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Compare a run with the noise in it, if it has some in all bands: a gate lets noise and word pass together.

    Args:
        smooth: [hops, bands] dBFS, of the run.
        floor: [bands] dBFS.
        above: [hops] dB, of the loudest band over the floor.
    Returns:
        [hops] likewise, over the run's own floor.
    """
    inner = smooth[_RIM_HOPS:-_RIM_HOPS]
    if not len(inner) or np.any(inner.min(axis=0) < floor + _RAISED_DB):
        return above
    padded = np.pad(inner, ((_CONTEXT_HOPS + _RIM_HOPS,) * 2, (0, 0)), mode="edge")
    own = np.lib.stride_tricks.sliding_window_view(padded, 2 * _CONTEXT_HOPS + 1, axis=0).min(axis=-1)
    above_own = np.max(smooth - own, axis=1) - _LEAST_TO_FLOOR_DB
    return above_own if _is_clear(above_own) else above


def _is_clear(above: np.ndarray) -> bool:
    return bool(np.count_nonzero(above >= _CLEARLY_DB) >= _CLEARLY_HOPS)


def _smoothed(levels: np.ndarray) -> np.ndarray:
    """Average powers over neighbours, so that noise varies less: [hops, bands] dBFS."""
    rim = _SMOOTHED_HOPS // 2
    power = np.pad(10**(levels / 10), ((rim, rim), (0, 0)), mode="edge")
    return 10 * np.log10(np.lib.stride_tricks.sliding_window_view(power, _SMOOTHED_HOPS, axis=0).mean(axis=-1))


def _runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """Find where [hops] is true: (first, after the last) of each run."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2])]


def _without_clicks(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    ends = [-_LONELY_HOPS, *(end for _, end in runs)]
    starts = [*(start for start, _ in runs[1:]), runs[-1][1] + _LONELY_HOPS] if runs else []
    return [(start, end) for (start, end), before, after in zip(runs, ends, starts)
            if end - start >= _CLICK_HOPS or start - before < _LONELY_HOPS or after - end < _LONELY_HOPS]


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < _PAUSE_HOPS:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined
