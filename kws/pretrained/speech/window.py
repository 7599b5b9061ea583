"""From a recording of any length to the fixed window a model listens to."""
from __future__ import annotations

import numpy as np

FULL_SCALE = 32768  # what 1.0 is in 16-bit samples
# Windows that hold so much of the energy of the loudest one hold the same sound: what they lack is its rim, and noise.
_ALL_OF_IT = 0.98


def pad_or_crop(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Centre a recording in a window of `num_samples`: pad with zeros or crop, alike on both sides.

    Args:
        waveform: [T] any dtype.
        num_samples: length of the window.
    Returns:
        [num_samples], same dtype; the middle of the recording is the middle of the window.
    """
    surplus = len(waveform) - num_samples
    if surplus >= 0:
        start = surplus // 2
        return waveform[start:start + num_samples]
    before = -surplus // 2
    return np.pad(waveform, (before, -surplus - before))


def window_starts(length: int, num_samples: int) -> list[int]:
    """Where windows begin that together hear a whole recording: half a window apart, the last one at its end.

    Args:
        length: samples of the recording, at least 1.
        num_samples: length of the window.
    Returns:
        first samples, ascending; [0] for a recording that fits into one window.
    """
    last = max(length - num_samples, 0)
    return [*range(0, last, max(num_samples // 2, 1)), last]


def loudest_start(waveform: np.ndarray, num_samples: int) -> int:
    """Find where the window with the most energy begins, as a recording of one word is cropped for training.

    A word shorter than the window leaves many windows that hold all of it: of those the middle one, which has the word
    in its middle as `pad_or_crop` has it. In silence, and in a sound that never changes, that is the middle of the
    recording.

    Args:
        waveform: [T] any real dtype; a constant offset does not count as sound.
        num_samples: length of the window.
    Returns:
        first sample, 0..T - num_samples; 0 for a recording that fits into the window.
    """
    last = len(waveform) - num_samples
    if last <= 0:
        return 0
    rim = num_samples // 2  # windows may reach beyond both ends, so that a word there is not cut to be in the middle
    power = np.pad(np.square(waveform - waveform.mean(dtype=np.float64)), rim)
    before = np.concatenate(([0.0], np.cumsum(power)))  # energy before each sample
    energy = before[num_samples:] - before[:-num_samples]
    loudest = int(energy.argmax())
    less = np.flatnonzero(energy < _ALL_OF_IT * energy[loudest])
    index = int(np.searchsorted(less, loudest))
    first = int(less[index - 1]) + 1 if index else 0
    final = int(less[index]) - 1 if index < len(less) else len(energy) - 1
    return min(max((first + final) // 2 - rim, 0), last)
