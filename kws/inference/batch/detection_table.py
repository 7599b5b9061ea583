"""The table of every keyword in recordings longer than the window: path, word, start_s, end_s, time_s, confidence.

Rows go to NAME.part, renamed when complete. It is written beside a `ResumableTable`, which knows how many of its bytes
belong to rows that count.
"""
from __future__ import annotations

import csv
import io
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Optional, Sequence

from kws.errors import DataError
from kws.files.atomic import check_file, flush
from kws.files.locks import exclusive
from kws.inference.batch.inputs import Row
from kws.inference.spotter import Answer

DETECTIONS_HEADER = b"path,word,start_s,end_s,time_s,confidence\r\n"


class DetectionTable:
    """A CSV file, as a context manager.

    Args:
        path: of the finished table.

    Raises:
        DataError: when entered, "not_a_table" if `NAME.part` is somebody else's, "in_use" if another prediction is at
            it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, path.with_name(f"{path.name}.part")
        self._lock = ExitStack()

    def __enter__(self) -> DetectionTable:
        check_file(self.path)
        self._lock.enter_context(exclusive(self.path, "a prediction"))
        if self.size and not self.part.read_bytes().startswith(DETECTIONS_HEADER):
            self._lock.close()
            raise DataError(f"{self.part}: not of a prediction that was interrupted; remove it, or give the table "
                            "another name", "not_a_table")
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self._lock.close()

    @property
    def size(self) -> int:
        """Bytes that are written."""
        return self.part.stat().st_size if self.part.exists() else 0

    def start(self) -> None:
        """Begin a new table."""
        self.part.write_bytes(DETECTIONS_HEADER)

    def keep(self, size: int) -> None:
        """Forget what was written after the first `size` bytes; begin anew if they do not hold the header."""
        if size < len(DETECTIONS_HEADER):
            self.start()
            return
        os.truncate(self.part, size)

    def write(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[int]:
        """Append what was found in recordings; return how many bytes the table has after each of them."""
        ends, size = [], self.size
        with open(self.part, "ab") as file:
            for row, answer in zip(rows, answers):
                size += file.write(detection_lines(row, answer))
                ends.append(size)
        return ends

    def finish(self) -> None:
        """Give the complete table its name."""
        flush(self.part)
        os.replace(self.part, self.path)
        flush(self.path.parent)


def detection_lines(row: Row, answer: Answer) -> bytes:
    """Write the detections of a recording; there are none in a clip, and in what could not be read."""
    text = io.StringIO()
    writer = csv.writer(text)
    for found in getattr(answer, "detections", None) or ():
        told = found.as_record()
        times = [f"{told[name]:g}" for name in ("start_s", "end_s", "time_s")]
        writer.writerow([row.path, told["word"], *times, f"{told['confidence']:.6f}"])
    return text.getvalue().encode("utf-8", "surrogateescape")
