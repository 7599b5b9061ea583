"""What of a take becomes a clip, and whether it is worth keeping."""
from __future__ import annotations

from typing import Optional

import numpy as np

from kws.audio.takes import LONGEST_SECONDS, Take
from kws.model.window import loudest_start

_FULL = 0.99  # of full scale
_CLIPPED_SAMPLES = 3
_SHORTEST_SECONDS = 0.1
_QUIETEST_DB = -45.0  # dBFS of a take's loudest tenth of a second
_NOISIEST_DB = 10.0  # that it must be above the room
_LEVEL_SECONDS = 0.1
_RIM = 0.01  # share of a take's energy that may be outside of its clip: breath, and the echo of a room


def clip_of(take: Take, window_seconds: float) -> np.ndarray:
    """Cut a take to its sound and as much of the pauses as the window has room for: [T] float32.

    The sound is in the middle where the pauses are long enough; of one that is longer than the window, the part with
    most energy is.
    """
    size = min(round(window_seconds * take.sample_rate), len(take.samples))
    if len(take.sound) > size:
        start = take.start + loudest_start(take.sound, size)
    else:
        start = (take.start + take.end - size) // 2
    start = min(max(start, 0), len(take.samples) - size)
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
    if np.count_nonzero(np.abs(take.sound) >= _FULL) >= _CLIPPED_SAMPLES:
        return "too loud: it is clipped; go further away, or turn the microphone's level down"
    if level < _QUIETEST_DB:
        return f"too quiet ({level:.0f} dBFS); speak up, or go nearer to the microphone"
    if level - take.floor_db < _NOISIEST_DB:
        return (f"only {level - take.floor_db:.0f} dB above the room's {take.floor_db:.0f} dBFS; speak up, or find a "
                "quieter place")
    if take.seconds < _SHORTEST_SECONDS:
        return f"too short ({take.seconds:.2f} s); it is no word"
    if take.seconds > LONGEST_SECONDS:
        return f"sound without a pause for {take.seconds:.1f} s; leave half a second of silence around each word"
    if _share_outside(take, window_seconds) > _RIM:
        return f"too long ({take.seconds:.2f} s) for {window_seconds:g} s; say it faster, or use a longer --window"
    return None


def _share_outside(take: Take, window_seconds: float) -> float:
    """The share of a take's energy that its clip lacks."""
    if take.seconds <= window_seconds:
        return 0.0
    power = np.square(take.sound - take.sound.mean(), dtype=np.float64)
    start = loudest_start(take.sound, round(window_seconds * take.sample_rate))
    inside = power[start:start + round(window_seconds * take.sample_rate)].sum()
    return float(1 - inside / power.sum())
