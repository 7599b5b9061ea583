"""Notice sound that comes at another rate than stated: samples per second of the clock."""
from __future__ import annotations

from typing import Optional

STANDARD_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_WINDOWS = 3
_STEADY = 1.06  # greatest ratio between windows: devices hand over blocks, so a window may have one more or less
_OFF = 0.05  # share by which a rate must differ to be another one; clocks of devices are within 0.1 %


class RateWatch:
    """Measures the rate at which samples come, and tells once if it is steady and not the stated one.

    Sound that is read from a file comes as fast as it is heard, so its rate is none of a device.

    Args:
        rate: Hz, stated.
        window_seconds: three windows of this length must agree.
    """

    def __init__(self, rate: int, window_seconds: float = 5.0) -> None:
        self._rate, self._window_seconds = rate, window_seconds
        self._told = False
        self.restart()

    def restart(self) -> None:
        """Measure anew: samples are known to be missing."""
        self._rates: list[float] = []
        self._since: Optional[float] = None
        self._count = 0

    def add(self, count: int, now: float) -> Optional[int]:
        """Count samples that have just come, at `now` seconds of a clock; return another rate once it is certain."""
        if self._told:
            return None
        if self._since is None:
            self._since = now
        if now - self._since < self._window_seconds:
            self._count += count
            return None
        # What comes now begins the next window: sound that comes in bursts is measured from burst to burst.
        self._rates = [*self._rates, self._count / (now - self._since)][-_WINDOWS:]
        self._since, self._count = now, count
        if len(self._rates) < _WINDOWS or max(self._rates) > _STEADY * min(self._rates):
            return None
        measured = sum(self._rates) / _WINDOWS
        self._told = abs(measured - self._rate) > _OFF * self._rate
        return nearest_standard(measured) or round(measured) if self._told else None


def nearest_standard(rate: float) -> Optional[int]:
    """Return the standard rate that a measured one is, within 3 %; None if it is none of them."""
    nearest = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) <= 0.03 * nearest else None
