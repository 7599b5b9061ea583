"""Resumable output table: rows go to NAME.part, renamed when complete.

`NAME.part` is a CSV file. The first line of `NAME.part.json` says what the rows belong to (program, model, labels,
threshold, ...); then comes a line per row with size and time of the recording, and the bytes of the table of detections
up to there if one is written. Rows count only if they have such a line, and only for the same model, settings and
recordings. The file is locked while a prediction runs, and removed at the end.
"""
from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Iterable, Iterator, Mapping, Optional, Sequence, TextIO

from kws.errors import DataError
from kws.files.atomic import atomic_file, check_file, flush
from kws.files.locks import open_alone
from kws.inference.batch.columns import TEXT, TableColumns
from kws.inference.batch.detection_table import DetectionTable
from kws.inference.batch.inputs import Row, import_parquet
from kws.inference.spotter import Answer
from kws.model.labels import LabelSet

_PROGRAM, _VERSION = "kws.predict", 1  # of the table; the package's is named beside it
_SEPARATOR = ", detections to "  # between the stamp of a recording and the bytes of the table of detections


class ResumableTable:
    """The output table of one prediction, as a context manager.

    Args:
        path: of the finished table.
        labels: one column each.
        kind: "csv", "jsonl" or "parquet".
        top_k: labels whose confidence is kept, the most probable; None: all.
        settings: what else decides the rows, such as the model and the threshold; words and numbers.
        detections: of the table of detections, if one is to be written.

    Raises:
        DataError: "no_parquet"; when entered, "not_a_table" if `NAME.part` is somebody else's, "in_use" if another
            prediction is at it.
    """

    def __init__(self, path: Path, labels: LabelSet, kind: str = "csv", top_k: Optional[int] = None,
                 settings: Optional[Mapping[str, object]] = None, detections: Optional[Path] = None) -> None:
        self.path, self._kind, self._columns = path, kind, TableColumns(labels, top_k)
        self.part = path.with_name(f"{path.name}.part")
        self._side = path.with_name(f"{path.name}.part.json")
        self._belongs_to = {"program": _PROGRAM, "format": _VERSION,
                            "labels": list(labels), "top_k": top_k, **(settings or {})}
        self._detections = None if detections is None else DetectionTable(detections)
        if detections is not None:
            self._belongs_to["detections"] = str(detections)
        self._lock: Optional[TextIO] = None
        if kind == "parquet":
            import_parquet(path)

    def __enter__(self) -> ResumableTable:
        check_file(self.path)
        if self.part.exists() and not self._side.exists():
            raise DataError(f"{self.part}: not of a prediction that was interrupted (no {self._side.name} beside it); "
                            "remove it, or give the table another name", "not_a_table")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = open_alone(self._side)
        except BlockingIOError:
            raise DataError(f"{self.path}: another prediction is writing it; wait for it, or give the table another "
                            "name", "in_use") from None
        except PermissionError as error:  # what everybody meets who mounts a folder into a container
            raise PermissionError(error.errno, f"{error.strerror}; in a container, run it as the owner of the folder: "
                                  "docker run --user \"$(id -u):$(id -g)\"", error.filename) from None
        if self._detections is not None:
            try:
                self._detections.__enter__()
            except BaseException:
                self._release()
                raise
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        if self._detections is not None:
            self._detections.__exit__(kind, error, traceback)
        self._release()

    def _release(self) -> None:
        if not self.part.exists():  # finished, or never begun
            self._side.unlink(missing_ok=True)
        with suppress(OSError):  # of a full disk, which was told
            self._side_file.close()
        self._lock = None

    @property
    def _side_file(self) -> TextIO:
        assert self._lock is not None, "a table is used within `with table:`"
        return self._lock

    def start(self) -> None:
        """Begin a new table; raises OSError if that is impossible."""
        self.part.unlink(missing_ok=True)  # first: old rows must not be taken for what the next line describes
        self._side_file.truncate(0)
        self._side_file.write(json.dumps(self._belongs_to, ensure_ascii=False) + "\n")
        self._side_file.flush()
        if self._detections is not None:
            self._detections.start()
        self.part.write_bytes(self._columns.header())

    def resume(self, rows: Iterable[Row]) -> Iterator[dict[str, str]]:
        """Yield what an interrupted prediction of these rows has written, and leave exactly that in the table.

        Raises:
            DataError: "other_table" if it is of another model, other settings or recordings; nothing is changed then.
        """
        if not self.part.exists() or not self.part.stat().st_size:  # killed before its first line was written
            self.start()
            return
        with open(self._side, "rb") as side:
            first = side.readline()
            check_belongs(first, self._belongs_to, self.part, self._side)
            vouched, found = len(first), 0
            with atomic_file(self.part) as kept, open(kept, "w", **TEXT) as file:
                writer = csv.DictWriter(file, self._columns.names)
                writer.writeheader()
                for row, done, line in zip(rows, self._complete_rows(), side):
                    stamp, _, end = line.decode().partition(_SEPARATOR)
                    if not line.endswith(b"\n") or self._lacks_detections(end):  # cut off
                        break
                    self._check_row(row, done["path"], stamp.rstrip())
                    vouched, found = vouched + len(line), int(end or 0)
                    writer.writerow(done)
                    yield done
                if self._detections is not None:
                    self._detections.keep(found)
                self._side_file.truncate(vouched)  # before the rows: it may vouch for fewer, never for others

    def _lacks_detections(self, end: str) -> bool:
        return self._detections is not None and int(end or 0) > self._detections.size

    def _check_row(self, row: Row, path: str, stamp: str) -> None:
        if path != row.path:
            raise DataError(f"{self.part}: its row for {path!r} stands where the input has {row.path!r}; it was "
                            "written for another input. Predict without --resume", "other_table")
        now = row.stamp()
        if stamp != now:
            raise DataError(f"{self.part}: its row for {path!r} is of another recording (size and time {stamp}) than "
                            f"{row.location} ({now}); it was changed since, or the input is another one. Predict "
                            "without --resume", "other_table")

    def _complete_rows(self) -> Iterator[dict[str, str]]:
        """Rows of the table, without a last one that was cut off."""
        with open(self.part, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 1, 0))
            is_cut = file.read() != b"\n"
        with open(self.part, **TEXT) as text:
            reader = csv.DictReader(text, strict=True)
            if reader.fieldnames != self._columns.names:
                raise DataError(f"{self.part}: columns {reader.fieldnames}; expected {self._columns.names}. Predict "
                                "without --resume", "other_table")
            previous: Optional[dict[str, str]] = None
            try:
                for row in reader:
                    if previous is not None:
                        yield previous
                    previous = row
            except csv.Error:  # cut off within quotes
                is_cut = False
            if previous is not None and not is_cut and None not in previous.values():
                yield previous

    def write(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """Append rows.

        Raises:
            OSError: if the disk is full; what is there can be resumed.
        """
        stamps = [row.stamp() for row in rows]
        try:
            if self._detections is not None:
                ends = self._detections.write(rows, answers)
                stamps = [f"{stamp}{_SEPARATOR}{end}" for stamp, end in zip(stamps, ends)]
            with open(self.part, "ab") as file:
                file.write(self._columns.lines(rows, answers))
            self._side_file.writelines(f"{stamp}\n" for stamp in stamps)
            self._side_file.flush()
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; --resume goes on from here", str(self.part)) from error

    def finish(self) -> None:
        """Give the complete table its name, in the format that was asked for."""
        if self._detections is not None:
            self._detections.finish()
        if self._kind == "csv":
            flush(self.part)
            os.replace(self.part, self.path)
            flush(self.path.parent)
            return
        with atomic_file(self.path) as path, open(path, "wb") as target, open(self.part, **TEXT) as table:
            self._columns.convert([table], self._kind, target)
        self.part.unlink()


def check_belongs(found: bytes, expected: Mapping[str, object], table: Path, side: Path) -> None:
    """Refuse to go on with a table that was begun with something else.

    Args:
        found: JSON, what the table belongs to.
        expected: what a table of now would.
        table, side: of which the second says what the first belongs to.
    Raises:
        DataError: "other_table".
    """
    try:
        begun = dict(json.loads(found))
    except (ValueError, TypeError):
        raise DataError(f"{side}: does not say what {table.name} belongs to. Predict without --resume",
                        "other_table") from None
    differing = [f"{name} {_shown(begun.get(name))}, now {_shown(expected.get(name))}"
                 for name in {**expected, **begun} if begun.get(name) != expected.get(name)]
    if differing:
        raise DataError(f"{table}: was begun with {'; '.join(differing)}. Repeat the command as it was begun, or "
                        "predict without --resume", "other_table")


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else "all" if value is None else str(value)
