"""One pass over files: bytes -> checksum -> waveform -> statistics -> window. A bad file is a value, not an exception.

This module is imported by worker processes: it stays light.
"""
from __future__ import annotations

import hashlib
import itertools
import math
import mmap
import signal
import sys
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Iterator, Optional, Sequence

import numpy as np

from kws.audio.decode import Limits, decode_recording, read_bytes
from kws.errors import AudioError, DataError
from kws.inference.cores import available_cores
from kws.model.window import FULL_SCALE, loudest_start, pad_or_crop

FLOOR_DB = -120.0  # level of digital silence, and of anything below
_CLIPPED_ABOVE = 0.99  # below the largest sample of an 8-bit file, 127 / 128
_CHUNK_FILES = 64  # files a worker takes at once: 2 MB of one-second clips
_INLINE_FILES = 512  # fewer are done before workers have started

_shared: np.ndarray  # in worker processes: [slots, files, T] int16


@dataclass(frozen=True)
class Inspection:
    """What one file holds.

    Args:
        path: as given, relative.
        sha256: hex, of the file's bytes; "" if they cannot be read.
        sample_rate: Hz, of the file; 0 if it cannot be decoded, as all numbers below.
        channels: of the file.
        num_samples: of each channel of the file.
        seconds: duration.
        peak_db: dBFS, of the loudest sample, at least -120.
        rms_db: dBFS, of the whole recording, at least -120.
        dc_offset: mean of the samples, -1..1.
        clipped: share of the samples at full scale, 0..1; in the recording or in its window, where more are.
        start_seconds: where the window begins in the recording; 0 if the recording fits into it.
        outside: share of the recording's energy that is outside of the window, 0..1.
        heard_db: dBFS, of the loudest sample of the window, at least -120.
        downmix: share of the energy that averaging the channels would lose, 0..1 (see
            `kws.audio.decode.Losses`, as below).
        resampling: share of the energy above half of the store's sample rate, 0..1.
        clipping: share of the energy beyond full scale, 0..1.
        code: what is wrong, the code of an AudioError; "" if nothing is.
        message: the same in words.
        samples: [T] int16, the window (the whole recording if no window was asked for); None if `code`.
    """

    path: str
    sha256: str = ""
    sample_rate: int = 0
    channels: int = 0
    num_samples: int = 0
    seconds: float = 0.0
    peak_db: float = FLOOR_DB
    rms_db: float = FLOOR_DB
    dc_offset: float = 0.0
    clipped: float = 0.0
    start_seconds: float = 0.0
    outside: float = 0.0
    heard_db: float = FLOOR_DB
    downmix: float = 0.0
    resampling: float = 0.0
    clipping: float = 0.0
    code: str = ""
    message: str = ""
    samples: Optional[np.ndarray] = None


def inspect_file(path: str, root: Path, sample_rate: int, num_samples: Optional[int], limits: Limits) -> Inspection:
    """Read, check and measure one file.

    A recording that is shorter than the window is centred in it, as `predict` has it; of a longer one the window takes
    the loudest part, with the word in its middle.

    Args:
        path: relative to `root`; names the file in messages.
        root: the data folder.
        sample_rate: Hz, of `samples`.
        num_samples: length of the window; None keeps the recording as long as it is.
        limits: of the decoder.
    """
    checksum = ""
    try:
        content = read_bytes(root / path, path, limits)
        checksum = hashlib.sha256(content).hexdigest()
        recording = decode_recording(content, sample_rate, limits, path)
    except AudioError as error:
        return Inspection(path, checksum, code=error.code, message=str(error))
    waveform = recording.waveform
    size = len(waveform) if num_samples is None else num_samples
    start = loudest_start(waveform, size)
    window = waveform[start:start + size]
    magnitudes = np.abs(waveform)
    heard = magnitudes[start:start + size]
    return Inspection(
        path=path, sha256=checksum, sample_rate=recording.sample_rate, channels=recording.channels,
        num_samples=recording.num_samples, seconds=recording.num_samples / recording.sample_rate,
        peak_db=to_decibels(float(magnitudes.max())),
        rms_db=to_decibels(float(np.sqrt(np.square(waveform).mean()))), dc_offset=float(waveform.mean()),
        clipped=max(np.count_nonzero(is_clipped(part)) / len(part) for part in (magnitudes, heard)),
        start_seconds=start / sample_rate, outside=_share_outside(waveform, window),
        heard_db=to_decibels(float(heard.max())), downmix=recording.losses.downmix,
        resampling=recording.losses.resampling, clipping=recording.losses.clipping,
        samples=quantise(pad_or_crop(window, size)))


def _share_outside(waveform: np.ndarray, window: np.ndarray) -> float:
    """The share of the energy of a waveform that its window lacks; a constant offset does not count as sound."""
    if len(window) == len(waveform):
        return 0.0
    offset = waveform.mean()
    total = float(np.square(waveform - offset).sum(dtype=np.float64))
    return 1.0 - float(np.square(window - offset).sum(dtype=np.float64)) / total if total else 0.0


def is_clipped(magnitudes: np.ndarray) -> np.ndarray:
    """[T] in 0..1 -> [T] whether a sample is at full scale."""
    return magnitudes > _CLIPPED_ABOVE


def quantise(waveform: np.ndarray) -> np.ndarray:
    """[T] float32 in -1..1 -> [T] int16; dividing by FULL_SCALE gives the samples of a 16-bit file back exactly."""
    return np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def inspect_files(paths: Sequence[str], root: Path, sample_rate: int, num_samples: int, limits: Limits,
                  workers: Optional[int] = None) -> Iterator[Inspection]:
    """Inspect many files in parallel, in the order given; only a few chunks of them are in memory at a time.

    Args:
        paths, root, sample_rate, num_samples, limits: as for `inspect_file`.
        workers: processes; 1 works in this one. None: one per core, where they pay.
    Raises:
        DataError: "worker_died".
    """
    inspect = partial(inspect_file, root=root, sample_rate=sample_rate, num_samples=num_samples, limits=limits)
    workers = _worth_starting(len(paths)) if workers is None else workers
    return map(inspect, paths) if workers <= 1 else _inspect_in_processes(inspect, paths, num_samples, workers)


def _worth_starting(num_files: int) -> int:
    """Choose the number of processes.

    Threads gain nothing (measured: 3,200 WAV files/s against 3,700 in one thread: decoding short files mostly
    holds the interpreter lock), and only `fork` starts processes without importing the caller's program again.
    """
    return 1 if num_files < _INLINE_FILES or sys.platform != "linux" else available_cores()


def _inspect_in_processes(inspect: partial[Inspection], paths: Sequence[str], num_samples: int,
                          workers: int) -> Iterator[Inspection]:
    chunks = [paths[start:start + _CHUNK_FILES] for start in range(0, len(paths), _CHUNK_FILES)]
    num_slots = 3 * workers  # chunks that are queued, in work, or wait to be fetched
    shared = _share((num_slots, _CHUNK_FILES, num_samples))
    pool = ProcessPoolExecutor(workers, get_context("fork"), _start_worker, (shared,))
    try:
        submitted = (pool.submit(_inspect_chunk, inspect, chunk, number % num_slots)
                     for number, chunk in enumerate(chunks))
        pending: deque[Future[list[Inspection]]] = deque(itertools.islice(submitted, num_slots))
        for number in range(len(chunks)):
            found = pending.popleft().result()
            for inspection, samples in zip(found, shared[number % num_slots], strict=False):
                yield inspection if inspection.code else replace(inspection, samples=samples.copy())
            pending.extend(itertools.islice(submitted, 1))
    except BrokenProcessPool:
        raise DataError(f"{inspect.keywords['root']}: a worker process died while reading the files; "
                        "is there enough memory?", "worker_died") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _share(shape: tuple[int, int, int]) -> np.ndarray:
    """Make an int16 array that forked processes share: sending samples through pipes costs as much as decoding."""
    memory = mmap.mmap(-1, math.prod(shape) * np.dtype(np.int16).itemsize)
    return np.frombuffer(memory, dtype=np.int16).reshape(shape)


def _start_worker(shared: np.ndarray) -> None:
    """Ctrl-C reaches every process of the terminal; the parent stops the workers."""
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _inspect_chunk(inspect: partial[Inspection], paths: Sequence[str], slot: int) -> list[Inspection]:
    """Leave the samples in a slot of the shared array, return the rest."""
    found = []
    for position, path in enumerate(paths):
        inspection = inspect(path)
        if inspection.samples is not None:
            _shared[slot, position] = inspection.samples  # noqa: F821 - declared above, set by `_start_worker`
        found.append(replace(inspection, samples=None))
    return found


def to_decibels(amplitude: float) -> float:
    """Level of an amplitude of 0..1 in dBFS, at least FLOOR_DB."""
    return max(20.0 * float(np.log10(max(amplitude, 1e-9))), FLOOR_DB)
