"""Background recordings of any length: those over a minute are read in blocks, so memory use is bounded."""
from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import numpy as np
import soundfile
import soxr

from kws.audio.decode import Limits, hear
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
    except RuntimeError:  # of libsndfile, for the formats that need the other decoders
        whole = inspect_file(path, root, sample_rate, None, Limits())
        is_too_long = whole.code in ("too_long", "too_large")
        return replace(whole, message=f"{whole.message}; convert it to WAV or FLAC") if is_too_long else whole


def _inspect_in_blocks(path: str, root: Path, sample_rate: int, scratch: Path) -> Inspection:
    peak, total, squares, clipped, count = 0.0, 0.0, 0.0, 0, 0
    with soundfile.SoundFile(root / path) as file, open(scratch, "wb") as samples:
        for block in _blocks(file, sample_rate, path):
            block = np.clip(block, -1.0, 1.0)
            samples.write(quantise(block).tobytes())
            magnitudes = np.abs(block)
            peak, count = max(peak, float(magnitudes.max(initial=0.0))), count + len(block)
            total += float(block.sum(dtype=np.float64))
            squares += float(np.square(block).sum(dtype=np.float64))
            clipped += int(np.count_nonzero(is_clipped(magnitudes)))
        num_samples, rate, channels = file.tell(), file.samplerate, file.channels
    if not count:
        return Inspection(path, code="empty_audio", message=f"{path}: 0 samples; expected at least 1")
    return Inspection(
        path=path, sha256=_checksum(root / path), sample_rate=rate, channels=channels, num_samples=num_samples,
        seconds=num_samples / rate, peak_db=to_decibels(peak), rms_db=to_decibels((squares / count) ** 0.5),
        dc_offset=total / count, clipped=clipped / count, heard_db=to_decibels(peak),
        samples=np.memmap(scratch, dtype=np.int16, mode="r"))


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
