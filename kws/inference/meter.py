"""A line on the terminal that shows what is heard: its level, and what else there is to say."""
from __future__ import annotations

import logging
import math
import shutil
import time
from typing import TextIO

import numpy as np

_REDRAW_SECONDS = 0.1
_QUIETEST, _LOUDEST = -60.0, 0.0  # dBFS, ends of the bar
_BAR = 20
_CLEAR = "\r\x1b[K"


class LevelBar(logging.Filter):
    """Draws over itself; give it to the handlers of the log as a filter, so that messages get lines of their own.

    Args:
        terminal: where to draw; nothing is drawn where it is none.
    """

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal, self.is_shown = terminal, terminal.isatty()
        self._peak, self._next = 0.0, 0.0

    def draw(self, samples: np.ndarray, before: str, after: str) -> bool:
        """Show the level of the next samples, [T] in -1..1, between two texts; return whether it was drawn anew."""
        if not self.is_shown:
            return False
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _REDRAW_SECONDS
        level = 20 * math.log10(max(self._peak, 1e-6))
        filled = round(_BAR * min(max((level - _QUIETEST) / (_LOUDEST - _QUIETEST), 0.0), 1.0))
        line = f"{before}  [{'#' * filled:<{_BAR}}] {level:4.0f} dB  {after}"
        self._terminal.write(_CLEAR + line[:shutil.get_terminal_size().columns - 1])
        self._terminal.flush()
        self._peak = 0.0
        return True

    def clear(self) -> None:
        """Make room for a line of something else."""
        if self.is_shown:
            self._terminal.write(_CLEAR)
            self._terminal.flush()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every message pass, on a clear line."""
        self.clear()
        return True


class Meter(LevelBar):
    """Shows the level, and the keyword that the sound comes closest to."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__(terminal)
        self._best = ("", 0.0)

    def show(self, samples: np.ndarray, seconds: float, best: tuple[str, float]) -> None:
        """Show the next samples, [T] in -1..1; `seconds` is their time, `best` the nearest keyword, its confidence."""
        self._best = max(self._best, best, key=lambda found: found[1])
        if self.draw(samples, f"{seconds:9.1f} s", f"{self._best[0]:<12} {self._best[1]:6.1%}"):
            self._best = ("", 0.0)
