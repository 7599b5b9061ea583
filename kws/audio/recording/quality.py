"""Cut a take to a clip, and say what is wrong with a bad one."""
from __future__ import annotations

from typing import Optional

import numpy as np

from kws.audio.recording.takes import LONGEST_SECONDS, Take

_FULL = 0.99  # of full scale
_FLAT = 0.998  # of a take's peak; a wave that is not cut off is seldom so near to it for long
_FLAT_SAMPLES = 3
_FLAT_PLACES = 3
_LEAST_PEAK = 0.05  # below it 16 bits make all tops flat
_SHORTEST_SECONDS = 0.1
_QUIETEST_DB = -45.0  # dBFS of a take's loudest tenth of a second
_LEAST_ABOVE_ROOM_DB = 10.0  # of the same
_LEVEL_SECONDS = 0.1
_HOP_SECONDS = 0.01
_RIM_HOPS = 5  # at both ends of a take: not louder than noise that came with the word
_BELOW_PEAK_DB = 30.0  # the soft consonants of a word are louder
_LEAST_BELOW_PEAK_DB = 15.0


def clip_of(take: Take, window_seconds: float) -> np.ndarray:
    """Cut a take to its sound and as much of the pauses as the window has room for: [T] float32.

    The sound is in the middle where the pauses are long enough; of sound that is longer than the window, its core is.
    """
    size = min(round(window_seconds * take.sample_rate), len(take.samples))
    first, last = (take.start, take.end) if len(take.sound) <= size else _core(take)
    start = min(max((first + last - size) // 2, 0), len(take.samples) - size)
    return take.samples[start:start + size]


def level_db(take: Take) -> float:
    """Level of a take's loudest tenth of a second, dBFS."""
    size = min(round(_LEVEL_SECONDS * take.sample_rate), len(take.sound))
    power = np.concatenate(([0.0], np.cumsum(np.square(take.sound - take.sound.mean(), dtype=np.float64))))
    return float(10 * np.log10(max((power[size:] - power[:-size]).max() / size, 1e-12)))


def fault_of(take: Take, window_seconds: float) -> Optional[str]:
    """Say why a take is refused, and what to do; None for a good one."""
    level = level_db(take)
    if take.cut:
        return f"it is cut off at its {take.cut}; leave half a second of silence around each word"
    if _is_clipped(take.sound):
        return "too loud: clipped; go further from the microphone, or turn its level down"
    if level < _QUIETEST_DB:
        return f"too quiet ({level:.0f} dBFS); speak up, or go nearer to the microphone"
    if level - take.floor_db < _LEAST_ABOVE_ROOM_DB:
        return (f"only {level - take.floor_db:.0f} dB above the room's {take.floor_db:.0f} dBFS; speak up, or find a "
                "quieter place")
    if take.seconds < _SHORTEST_SECONDS:
        return f"too short ({take.seconds:.2f} s) for a word"
    if take.seconds > LONGEST_SECONDS:
        return f"sound without a pause for {take.seconds:.1f} s; leave half a second of silence around each word"
    first, last = _core(take)
    if min(take.seconds, (last - first) / take.sample_rate) > window_seconds:
        return f"too long ({take.seconds:.2f} s) for {window_seconds:g} s; say it faster, or use a longer --window"
    return None


def _is_clipped(sound: np.ndarray) -> bool:
    """Whether tops of [T] are cut off: at full scale, or below it if that was done before its level was set."""
    magnitudes = np.abs(sound)
    peak = float(magnitudes.max(initial=0.0))
    if np.count_nonzero(magnitudes >= _FULL) >= _FLAT_SAMPLES:
        return True
    edges = np.flatnonzero(np.diff(np.concatenate(([False], magnitudes >= _FLAT * peak, [False]))))
    flat = np.count_nonzero(edges[1::2] - edges[::2] >= _FLAT_SAMPLES)
    return bool(peak >= _LEAST_PEAK and flat >= _FLAT_PLACES)


def _core(take: Take) -> tuple[int, int]:
    """Find a take's sound without the breath, echo or noise around it: first sample, and the one after the last."""
    hop = round(_HOP_SECONDS * take.sample_rate)
    hops = (take.sound - take.sound.mean())[:len(take.sound) // hop * hop].reshape(-1, hop)
    levels = 10 * np.log10(np.maximum(np.square(hops).mean(axis=1), 1e-12))
    peak, rim = levels.max(), min(levels[:_RIM_HOPS].max(), levels[-_RIM_HOPS:].max())
    loud = np.flatnonzero(levels >= max(peak - _BELOW_PEAK_DB, min(rim, peak - _LEAST_BELOW_PEAK_DB)))
    return take.start + int(loud[0]) * hop, take.start + (int(loud[-1]) + 1) * hop
