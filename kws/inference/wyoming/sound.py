"""The sound of a connection: chunks of any rate, width and number of channels to what a model hears."""
from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

import numpy as np

from kws.audio.conversion import Converter
from kws.audio.pipe import CHANNELS, RATES, RawFormat
from kws.errors import AudioError

_SUBTYPES = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}  # of samples of so many bytes, as in WAV files


def format_of(data: Mapping[str, Any]) -> RawFormat:
    """Read what audio-start and audio-chunk say about their sound.

    Raises:
        AudioError: for what no sound has.
    """
    rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
    for name, value, known in (("rate", rate, RATES), ("width", width, _SUBTYPES), ("channels", channels, CHANNELS)):
        if type(value) is not int or value not in known:
            raise AudioError(f"{name} is {value!r:.40}; expected {min(known):,} to {max(known):,}"
                             f"{' bytes a sample' if name == 'width' else ''}")
    assert isinstance(rate, int) and isinstance(width, int) and isinstance(channels, int)
    return RawFormat(rate, channels, _SUBTYPES[width], frame_bytes=width * channels)


class ChunkedSound:
    """Sound in chunks, from its start: [T] float32 mono at the wanted rate, a second at a time.

    Each chunk says what it is, and counts for more than what was said at the start; another format than that of the
    chunk before is converted from there on.

    Args:
        sample_rate: Hz, wanted.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._format: Optional[RawFormat] = None
        self._converter = Converter(sample_rate, sample_rate)
        self._pending = b""
        self.seconds = 0.0  # that came

    def pieces(self, form: RawFormat, content: bytes) -> Iterator[np.ndarray]:
        """Convert the next chunk; part of a sample at its end waits for the next one."""
        if form != self._format:
            yield self.finish()
            self._format, self._converter = form, Converter(form.rate, self._sample_rate)
        content = self._pending + content
        whole = len(content) - len(content) % form.frame_bytes
        self._pending = content[whole:]
        size = form.rate * form.frame_bytes
        for start in range(0, whole, size):
            frames = form.decode(content[start:min(start + size, whole)])
            self.seconds += len(frames) / form.rate
            yield self._converter.convert(frames)

    def finish(self) -> np.ndarray:
        """End the sound, or what of it had one format; return what was still held back."""
        self._format, self._pending = None, b""
        return self._converter.finish()
