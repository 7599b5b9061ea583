"""From a recording of any length to the fixed window a model listens to."""
from __future__ import annotations

import numpy as np

FULL_SCALE = 32768  # what 1.0 is in 16-bit samples


def fit(waveform: np.ndarray, num_samples: int) -> np.ndarray:
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
