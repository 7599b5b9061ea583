"""Recordings of any length: short ones are decoded as a whole, others in blocks, so that memory use is bounded."""
from __future__ import annotations

import io
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterator

import numpy as np
import soundfile

from kws.audio.conversion import Converter
from kws.audio.decode import DEFAULT_LIMITS, Limits, Source, decode, hear
from kws.audio.formats import EXPECTED, complete
from kws.audio.wav import Content, Wav, find_wav
from kws.errors import AudioError, first_line

MAX_COMPRESSED_BYTES = 2**30  # the bytes of all but WAV are held in memory while they are decoded
_BLOCK_SECONDS = 10


def recording_blocks(source: Source, sample_rate: int, limits: Limits = DEFAULT_LIMITS,
                     name: str = "") -> Iterator[np.ndarray]:
    """Yield the sound of a recording, of any length: as `decode` hears it within the limits, else in blocks.

    Args:
        source: encoded bytes, or the path of a file.
        sample_rate: Hz, wanted.
        limits: up to which it is decoded as a whole.
        name: what to call it in messages; a path is its own name.
    Returns:
        [T] float32 each, mono, at `sample_rate`.
    Raises:
        AudioError: as `decode` does; for what can only be told at the end, after the blocks before it.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        source, name = bytes(source), name or "upload"
    else:
        name = name or os.fspath(source)
    try:
        yield decode(source, sample_rate, limits, name)
        return
    except AudioError as error:
        if error.code not in ("too_long", "too_large"):
            raise
    with _open_content(source, name) if isinstance(source, bytes) else open_whole(Path(source), name) as file:
        yield from file_blocks(file, sample_rate, name)


def file_blocks(file: soundfile.SoundFile, sample_rate: int, name: str) -> Iterator[np.ndarray]:
    """Yield what is left of an open recording: [T] float32 each, mono, at `sample_rate`.

    Raises:
        AudioError: as `hear` does; "truncated_audio" at the end, if less could be decoded than there should be.
    """
    converter = Converter(file.samplerate, sample_rate)
    while len(block := file.read(_BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
        mono, _ = hear(block, file.samplerate, file.samplerate, name)
        yield converter.convert(mono[:, None])
    yield converter.finish()
    if file.tell() < file.frames:
        raise AudioError(f"{name}: {file.tell():,} of {file.frames:,} samples could be decoded. Is the file damaged?",
                         "truncated_audio")


@contextmanager
def open_whole(path: Path, name: str) -> Iterator[soundfile.SoundFile]:
    """Open a recording of which all bytes are accounted for; samples of a WAV file are read as they are needed.

    Raises:
        AudioError: "truncated_audio", "too_large" or "unsupported_audio", as `decode` does.
    """
    with open(path, "rb") as file, _open_content(_FileContent(file), name) as sound:
        yield sound


@contextmanager
def _open_content(content: Content, name: str) -> Iterator[soundfile.SoundFile]:
    wav = find_wav(content, name)
    if not wav and len(content) > MAX_COMPRESSED_BYTES:
        raise AudioError(f"{name}: {len(content):,} bytes; the limit of all but WAV is {MAX_COMPRESSED_BYTES:,}",
                         "too_large")
    source = _WavFile(wav) if wav else io.BytesIO(complete(content[:], name))
    try:
        with _Forwards(source) as sound:
            yield sound
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"{name}: not readable as audio ({first_line(error)}); {EXPECTED}") from None


class _Forwards(soundfile.SoundFile):
    """A recording that is read from start to end: soundfile would seek after each block, which MP3 does not survive."""

    def seekable(self) -> bool:
        """Say no."""
        return False


class _FileContent:
    """The bytes of a file that may be too long for the memory; one that is cut meanwhile ends sooner."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        first, last, _ = part.indices(self._size)
        self._file.seek(first)
        return self._file.read(max(last - first, 0))


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
