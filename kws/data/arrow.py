"""The two Arrow tables of a prepared store, as Hugging Face `datasets` reads them: memory-mapped, never loaded.

`clips.arrow` has one column `waveform`, a fixed-size list of int16, in ONE record batch: only then are all clips one
contiguous array on disk. pyarrow writes a batch from memory only, so the samples go to the file as they come, behind
room for the header; the header, whose size does not depend on the number of clips, is written last.
"""
from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Iterable, Optional, Type

import numpy as np
import pyarrow as pa
from datasets import Dataset

from kws.errors import DataError


class ClipWriter:
    """Write clips to an Arrow file one by one; memory stays flat.

    Args:
        path: the file; incomplete until `finish`.
        num_samples: T of every clip.
    """

    def __init__(self, path: Path, num_samples: int) -> None:
        self.num_clips = 0
        self._path, self._num_samples = path, num_samples
        self._offset = len(_envelope(np.zeros(num_samples, dtype=np.int16), num_samples).head)
        self._file = open(path, "wb")
        self._file.seek(self._offset)

    def add(self, samples: np.ndarray) -> None:
        """Append a clip, [T] int16."""
        self._file.write(np.ascontiguousarray(samples, dtype="<i2").data)
        self.num_clips += 1

    def finish(self) -> None:
        """Write what makes the samples an Arrow file; at least one clip is there."""
        self._file.flush()
        size = self.num_clips * self._num_samples
        body = np.memmap(self._path, dtype="<i2", mode="r", offset=self._offset, shape=(size,))
        envelope = _envelope(body, self._num_samples)
        assert len(envelope.head) == self._offset, "the header's size depends on the number of clips"
        self._file.write(envelope.tail)
        self._file.seek(0)
        self._file.write(envelope.head)
        self._file.close()

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self._file.close()


class _Envelope:
    """A file for pyarrow that keeps what stands before and behind the one large buffer, and lets that go by."""

    def __init__(self, body_bytes: int) -> None:
        self.head, self.tail = bytearray(), bytearray()
        self.closed = False
        self._body_bytes, self._behind = body_bytes, False

    def write(self, piece: Any) -> int:
        if isinstance(piece, pa.Buffer) and piece.size == self._body_bytes:
            self._behind = True
            return int(piece.size)
        (self.tail if self._behind else self.head).extend(memoryview(piece))
        return len(memoryview(piece))

    def tell(self) -> int:
        return len(self.head) + self._behind * self._body_bytes + len(self.tail)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def _envelope(samples: np.ndarray, num_samples: int) -> _Envelope:
    """Lay [N * T] int16 out as an Arrow stream, without reading it."""
    values = pa.Array.from_buffers(pa.int16(), len(samples), [None, pa.py_buffer(samples)])
    batch = pa.RecordBatch.from_arrays([pa.FixedSizeListArray.from_arrays(values, num_samples)], names=["waveform"])
    envelope = _Envelope(samples.nbytes)
    with pa.ipc.new_stream(pa.PythonFile(envelope, mode="w"), batch.schema) as stream:
        stream.write_batch(batch)
    return envelope


def write_noise(path: Path, recordings: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write background recordings, (name, [T'] int16) each, one record batch each: `name`, `waveform`."""
    schema = pa.schema([("name", pa.string()), ("waveform", pa.large_list(pa.int16()))])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for name, samples in recordings:
            values = pa.LargeListArray.from_arrays([0, len(samples)], pa.array(samples, pa.int16()))
            stream.write_batch(pa.RecordBatch.from_arrays([pa.array([name]), values], schema=schema))


def read_clips(path: Path) -> np.ndarray:
    """Map `clips.arrow`: [N, T] int16, read-only, a view of the file.

    Raises:
        DataError: "bad_store".
    """
    chunks = _read_column(path, "waveform").chunks
    if len(chunks) != 1 or not pa.types.is_fixed_size_list(chunks[0].type):
        raise DataError(f"{path}: not a table of clips as scripts/prepare.py writes it", "bad_store")
    return chunks[0].values.to_numpy(zero_copy_only=True).reshape(len(chunks[0]), chunks[0].type.list_size)


def read_noise(path: Path) -> dict[str, np.ndarray]:
    """Map `noise.arrow`: name -> [T'] int16, read-only, views of the file.

    Raises:
        DataError: "bad_store".
    """
    names = _read_column(path, "name").to_pylist()
    chunks = _read_column(path, "waveform").chunks
    return {name: chunk.values.to_numpy(zero_copy_only=True) for name, chunk in zip(names, chunks, strict=True)}


def _read_column(path: Path, column: str) -> pa.ChunkedArray:
    try:
        return Dataset.from_file(str(path)).data.column(column)
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); run scripts/prepare.py again", "bad_store") from None
