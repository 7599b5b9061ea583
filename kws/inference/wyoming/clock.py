"""The clock of a client: what its timestamps say about moments of its sound."""
from __future__ import annotations

from collections import deque

_MOST_MARKS = 100  # a detection comes a fraction of a second after its last sample
_ROUNDING_MS = 1.0  # timestamps are whole milliseconds


class Clock:
    """Tells moments of a sound on a client's clock, by the chunk that each lies in.

    The clock may jump where sound is missing, and may run at a speed of its own: Home Assistant 2024.3 counts 5 ms
    for 10 ms of sound.

    Args:
        start_ms: on the client's clock, of the first sample.
    """

    def __init__(self, start_ms: float = 0.0) -> None:
        self._marks = deque([(0.0, start_ms)], maxlen=_MOST_MARKS)  # seconds of sound, ms; only where they disagree

    def mark(self, seconds: float, ms: float) -> None:
        """Note that a chunk which begins after so many seconds of sound has this timestamp."""
        if abs(ms - self.time_of(seconds)) > _ROUNDING_MS:
            self._marks.append((seconds, ms))

    def time_of(self, seconds: float) -> float:
        """Return the time, ms, of a moment of the sound."""
        begin, ms = next((mark for mark in reversed(self._marks) if mark[0] <= seconds), self._marks[0])
        return ms + 1000 * (seconds - begin)
