"""Background recordings of any length: those over a minute are read in blocks, so memory use is bounded."""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from kws.audio.blocks import file_blocks, open_whole
from kws.audio.decode import Limits
from kws.data.inspection import Inspection, inspect_file, is_clipped, quantise, to_decibels
from kws.errors import AudioError

_WHOLE = Limits(max_seconds=60.0, max_bytes=2**24)  # up to this size a recording is decoded as clips are


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
    with open_whole(root / path, path) as file, open(scratch, "wb") as samples:
        for block in file_blocks(file, sample_rate, path):
            block = np.clip(block, -1.0, 1.0)
            samples.write(quantise(block).tobytes())
            magnitudes = np.abs(block)
            peak, count = max(peak, float(magnitudes.max(initial=0.0))), count + len(block)
            total += float(block.sum(dtype=np.float64))
            squares += float(np.square(block).sum(dtype=np.float64))
            clipped += int(np.count_nonzero(is_clipped(magnitudes)))
        num_samples, rate, channels = file.tell(), file.samplerate, file.channels
    return Inspection(
        path=path, sha256=_checksum(root / path), sample_rate=rate, channels=channels, num_samples=num_samples,
        seconds=num_samples / rate, peak_db=to_decibels(peak), rms_db=to_decibels((squares / count) ** 0.5),
        dc_offset=total / count, clipped=clipped / count, heard_db=to_decibels(peak),
        samples=np.memmap(scratch, dtype=np.int16, mode="r"))


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
