"""Play a recording back."""
from __future__ import annotations

import numpy as np
import soxr

from kws.audio.devices import import_portaudio, quiet_libraries
from kws.errors import DataError


def play(samples: np.ndarray, sample_rate: int) -> None:
    """Play [T] float32 in -1..1 on the system's default device, to the end.

    Raises:
        DataError: "no_loudspeaker" if there is none, or it cannot be opened.
    """
    portaudio = import_portaudio()
    try:
        with quiet_libraries():
            rate = round(portaudio.query_devices(None, "output")["default_samplerate"])
            portaudio.play(soxr.resample(samples, sample_rate, rate), rate, blocking=True)
    except (portaudio.PortAudioError, ValueError) as error:
        raise DataError(f"it cannot be played: {error.args[0]}", "no_loudspeaker") from None
