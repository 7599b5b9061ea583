"""Background recordings of any length: those over a minute are read in blocks, so memory use is bounded."""
from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import soundfile
import soxr

from kws.audio.decode import Limits, hear
from kws.audio.formats import EXPECTED, complete
from kws.audio.wav import Wav, find_wav
from kws.data.inspection import Inspection, inspect_file, is_clipped, quantise, to_decibels
from kws.errors import AudioError

_WHOLE = Limits(max_seconds=60.0, max_bytes=2**24)  # up to this size a recording is decoded as clips are
_BLOCK_SECONDS = 10
_BLOCK_BYTES = 2**20


def inspect_background(path: str, root: Path, sample_rate: int, scratch: Path) -> Inspection:
    """Read, check and measure one background recording.

    Args:
        path: relative to `root`; names the recording in messages.
        root: the data folder.
        sample_rate: Hz, of the samples.
        scratch: a file to write, where a long recording's samples go; the caller removes it.
    Returns:
        as `inspect_file` without a window; the samples of a long recording are a map of `scratch`.
    """
    found = inspect_file(path, root, sample_rate, None, _WHOLE)
    if found.code not in ("too_long", "too_large"):
        return found
    try:
        return _inspect_in_blocks(path, root, sample_rate, scratch)
    except AudioError as error:
        return Inspection(path, code=error.code, message=str(error))


def _inspect_in_blocks(path: str, root: Path, sample_rate: int, scratch: Path) -> Inspection:
    peak, total, squares, clipped, count = 0.0, 0.0, 0.0, 0, 0
    with _open_whole(root / path, path) as file, open(scratch, "wb") as samples:
        for block in _blocks(file, sample_rate, path):
            block = np.clip(block, -1.0, 1.0)
            samples.write(quantise(block).tobytes())
            magnitudes = np.abs(block)
            peak, count = max(peak, float(magnitudes.max(initial=0.0))), count + len(block)
            total += float(block.sum(dtype=np.float64))
            squares += float(np.square(block).sum(dtype=np.float64))
            clipped += int(np.count_nonzero(is_clipped(magnitudes)))
        num_samples, rate, channels = file.tell(), file.samplerate, file.channels
        if num_samples < file.frames:
            raise AudioError(f"{path}: {num_samples:,} of {file.frames:,} samples could be decoded. Is the file "
                             "damaged?", "truncated_audio")
    return Inspection(
        path=path, sha256=_checksum(root / path), sample_rate=rate, channels=channels, num_samples=num_samples,
        seconds=num_samples / rate, peak_db=to_decibels(peak), rms_db=to_decibels((squares / count) ** 0.5),
        dc_offset=total / count, clipped=clipped / count, heard_db=to_decibels(peak),
        samples=np.memmap(scratch, dtype=np.int16, mode="r"))


@contextmanager
def _open_whole(path: Path, name: str) -> Iterator[soundfile.SoundFile]:
    """Open a recording of which all bytes are accounted for; samples of a WAV file are read as they are needed.

    Raises:
        AudioError: "truncated_audio" or "unsupported_audio", as `decode` does.
    """
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        wav = find_wav(content, name)
        source = _WavFile(wav) if wav else io.BytesIO(complete(content[:], name))
        try:
            with soundfile.SoundFile(source) as sound:
                yield sound
        except (soundfile.LibsndfileError, TypeError) as error:
            raise AudioError(f"{name}: not readable as audio ({str(error).splitlines()[0]}); {EXPECTED}") from None


class _WavFile(io.RawIOBase):
    """A WAV file of format and samples only, whose samples stay in the file that they are in."""

    def __init__(self, wav: Wav) -> None:
        self._header, self._wav, self._position = wav.header(), wav, 0
        self._size = len(self._header) + wav.size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, as of any file."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the byte that is read next."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as there are, at most as many as the buffer takes."""
        first, last = self._position, min(self._position + len(buffer), self._size)
        in_header = self._header[first:last]
        start = self._wav.start - len(self._header)  # of the bare file, within the whole one
        content = in_header + self._wav.content[start + first + len(in_header):start + max(last, first)]
        buffer[:len(content)] = content
        self._position += len(content)
        return len(content)


def _blocks(file: soundfile.SoundFile, sample_rate: int, name: str) -> Iterator[np.ndarray]:
    """[T] float32 each, mono, at `sample_rate`; raises as `hear` does."""
    stream = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
    while len(block := file.read(_BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
        mono, _ = hear(block, file.samplerate, file.samplerate, name)
        yield mono if file.samplerate == sample_rate else stream.resample_chunk(mono)
    if file.samplerate != sample_rate:
        yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
