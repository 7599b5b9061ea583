"""From bytes or a file to a waveform: the only decoder in the tree."""
from __future__ import annotations

import io
import os
import stat
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Optional, Union

import numpy as np
import soundfile
import soxr

from kws.errors import AudioError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
_FORMATS = frozenset({"WAV", "WAVEX", "FLAC", "OGG", "MP3"})  # of what libsndfile reads, what this program answers for
_EXPECTED = "expected WAV, FLAC, OGG or MP3"
# Writers that do not know the length yet (pipes) put a placeholder there; libsndfile reads to the end then.
_STREAMING_SIZE = 0x7FFFF000

# Asking for `max_bytes` at once would allocate them for every clip (measured: half of the time of reading one).
_USUAL_BYTES = 2**18

Source = Union[bytes, bytearray, str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Limits:
    """What a decoder accepts, so that one upload cannot take the memory of a service.

    Args:
        max_bytes: size of the encoded file.
        max_seconds: length of the recording.
        max_channels: channels of the recording.
        max_values: samples of all channels together: 3 MB of FLAC can hold 12 GB of silence.
    """

    max_bytes: int = 64 * 2**20
    max_seconds: float = 600.0
    max_channels: int = 64
    max_values: int = 2**26


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Recording:
    """A decoded file.

    Args:
        waveform: [T] float32 in -1..1, mono, at the rate that was asked for, T >= 1.
        sample_rate: Hz, of the file.
        num_samples: of each channel of the file.
        channels: of the file.
    """

    waveform: np.ndarray
    sample_rate: int
    num_samples: int
    channels: int


def decode(source: Source, sample_rate: int, limits: Limits = DEFAULT_LIMITS, name: str = "") -> np.ndarray:
    """Decode WAV, FLAC, OGG or MP3 to a mono waveform; other rates are resampled, channels averaged.

    Args:
        source: encoded bytes, or the path of a file.
        sample_rate: Hz, wanted.
        limits: what is refused before it is decoded.
        name: what to call the clip in messages; a path is its own name.
    Returns:
        [T] float32 in -1..1, mono, at `sample_rate`, T >= 1.
    Raises:
        AudioError: "not_found", "unreadable", "empty_audio", "too_large", "too_long", "unsupported_audio",
            "truncated_audio" or "bad_samples" (NaN or infinite).
    """
    return decode_recording(source, sample_rate, limits, name).waveform


def decode_recording(source: Source, sample_rate: int, limits: Limits = DEFAULT_LIMITS,
                     name: str = "") -> Recording:
    """Decode as `decode` does, and tell what the file itself held; raises as `decode` does."""
    if isinstance(source, (bytes, bytearray)):
        content, name = bytes(source), name or "upload"
    else:
        name = name or os.fspath(source)
        content = read_bytes(Path(source), name, limits)
    if not content:
        raise AudioError(f"{name}: 0 bytes; expected an audio file", "empty_audio")
    if len(content) > limits.max_bytes:
        raise AudioError(f"{name}: {len(content):,} bytes; the limit is {limits.max_bytes:,}", "too_large")
    chunks = _riff_chunks(content)
    _check_riff_length(content, chunks, name)
    samples, rate = _plain_samples(content, chunks, sample_rate), sample_rate
    if samples is None or len(samples) > limits.max_seconds * rate:
        samples, rate = _decode_samples(content, name, limits)
    return Recording(_to_mono(samples, rate, sample_rate, name), rate, len(samples), samples.shape[1])


def read_bytes(path: Path, name: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read a file, hardly more of it than the limit.

    Raises:
        AudioError: "not_found" or "unreadable".
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: a pipe would be waited for
            raise AudioError(f"{name}: a folder, pipe or device; expected a file", "unreadable")
        with open(path, "rb") as file:
            content = file.read(_USUAL_BYTES)
            if len(content) == _USUAL_BYTES:
                content += file.read(max(limits.max_bytes + 1 - _USUAL_BYTES, 0))
            return content
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file", "not_found") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error.strerror}", "unreadable") from None
    except ValueError as error:  # a zero byte in the path, half a character
        raise AudioError(f"{name!r}: cannot be the path of a file: {error}", "not_found") from None


def _riff_chunks(content: bytes) -> dict[bytes, tuple[int, int]]:
    """Where the chunks of a WAV file up to its samples begin, and how many bytes they promise; {} for other files."""
    chunks: dict[bytes, tuple[int, int]] = {}
    position = 12 if content[:4] == b"RIFF" and content[8:12] == b"WAVE" else len(content)
    while position + 8 <= len(content) and b"data" not in chunks:
        size = int.from_bytes(content[position + 4:position + 8], "little")
        chunks.setdefault(content[position:position + 4], (position + 8, size))
        position += 8 + size + size % 2
    return chunks


def _check_riff_length(content: bytes, chunks: dict[bytes, tuple[int, int]], name: str) -> None:
    """Refuse a WAV file whose data chunk promises more bytes than there are: libsndfile would cut it silently."""
    start, size = chunks.get(b"data", (0, 0))
    if len(content) - start < size < _STREAMING_SIZE:
        raise AudioError(f"{name}: {len(content) - start:,} bytes of samples; its header promises {size:,}",
                         "truncated_audio")


def _plain_samples(content: bytes, chunks: dict[bytes, tuple[int, int]],
                   sample_rate: int) -> Optional[np.ndarray]:
    """Read 16-bit mono PCM at the wanted rate, what nearly every clip is, as it lies there: [T, 1] float32.

    libsndfile gives the same samples, in ten times the time, most of it in calls back into Python.
    """
    header, _ = chunks.get(b"fmt ", (0, 0))
    start, size = chunks.get(b"data", (0, 0))
    if content[header:header + 16] != _plain_header(sample_rate) or not 0 < size <= len(content) - start:
        return None
    return np.frombuffer(content, dtype="<i2", count=size // 2, offset=start)[:, None] * np.float32(1 / 32768)


@lru_cache
def _plain_header(sample_rate: int) -> bytes:
    """The format chunk of 16-bit mono PCM: format, channels, rate, bytes a second, bytes a frame, bits."""
    return struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)


def _decode_samples(content: bytes, name: str, limits: Limits) -> tuple[np.ndarray, int]:
    """Decode to ([T, channels] float32, rate)."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.format not in _FORMATS:
                raise AudioError(f"{name}: {file.format} format; {_EXPECTED}")
            if file.channels > limits.max_channels:
                raise AudioError(f"{name}: {file.channels} channels; the limit is {limits.max_channels}")
            wanted = min(file.frames, int(limits.max_seconds * file.samplerate) + 1)
            if wanted * file.channels > limits.max_values:
                raise AudioError(f"{name}: more than {limits.max_values:,} samples in {file.channels} channels",
                                 "too_large")
            samples, rate = file.read(wanted, dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: not readable as audio ({error.error_string.strip()}); {_EXPECTED}") from None
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise AudioError(f"{name}: not readable as audio ({type(error).__name__}); {_EXPECTED}") from None
    if len(samples) > limits.max_seconds * rate:
        raise AudioError(f"{name}: longer than the limit of {limits.max_seconds:g} s", "too_long")
    return samples, rate


def _to_mono(samples: np.ndarray, rate: int, sample_rate: int, name: str) -> np.ndarray:
    """[T, channels] at `rate` -> [T'] at `sample_rate`."""
    if len(samples) == 0:
        raise AudioError(f"{name}: 0 samples; expected at least 1. Is the file truncated?", "empty_audio")
    waveform = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: {np.count_nonzero(~np.isfinite(waveform))} NaN or infinite samples",
                         "bad_samples")
    if rate != sample_rate:
        waveform = soxr.resample(waveform, rate, sample_rate, quality="HQ").astype(np.float32, copy=False)
        if len(waveform) == 0:
            raise AudioError(f"{name}: too short to resample from {rate:,} Hz", "empty_audio")
    return np.clip(waveform, -1.0, 1.0)
