"""The rows of a prediction on disk: written as they come, continued after an interruption, named once complete.

While the work goes on, rows are in `<name>.part`, a CSV file; only the finished table gets its name.
"""
from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Sequence

from kws.errors import AudioError, DataError
from kws.inference import Answer
from kws.labels import LabelSet
from kws.listing import Row, import_parquet
from kws.postprocess import most_confident

FORMATS = ("csv", "jsonl", "parquet")
# File names are bytes on Linux: what is not UTF-8 in them comes back as it was.
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
_PARQUET_ROWS = 65536


class Journal:
    """The rows of one prediction.

    Args:
        path: of the finished table.
        labels: one column each.
        kind: "csv", "jsonl" or "parquet".
        top_k: labels whose confidence is kept, the most probable; None: all.

    Raises:
        DataError: "no_parquet".
    """

    def __init__(self, path: Path, labels: LabelSet, kind: str = "csv", top_k: Optional[int] = None) -> None:
        self.path, self._labels, self._kind, self._top_k = path, labels, kind, top_k
        self.part = path.with_name(f"{path.name}.part")
        self._columns = ["path", "label", "confidence", *labels, "start_seconds", "error"]
        if kind == "parquet":
            import_parquet(path)

    def start(self) -> None:
        """Begin a new table; raises OSError if that is impossible."""
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path}: a folder; expected the name of a file")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.part, "w", **_TEXT) as file:
                csv.writer(file).writerow(self._columns)
        except PermissionError as error:  # what everybody meets who mounts a folder into a container
            raise PermissionError(error.errno, f"{error.strerror}; in a container, run it as the owner of the folder: "
                                  "docker run --user \"$(id -u):$(id -g)\"", error.filename) from None

    def resume(self, rows: Iterable[Row]) -> Iterator[dict[str, str]]:
        """Yield what an interrupted prediction of these rows has written, and leave exactly that in the journal.

        Raises:
            DataError: "other_journal" if it is of other labels or rows; nothing is changed then.
        """
        if not self.part.exists():
            self.start()
            return
        kept = self.part.with_name(f"{self.part.name}.kept")
        try:
            with open(kept, "w", **_TEXT) as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                for row, done in zip(rows, self._complete_rows()):
                    if done["path"] != row.path:
                        raise DataError(f"{self.part}: its row for {done['path']!r} stands where the input has "
                                        f"{row.path!r}; it was written for another input. Predict without --resume",
                                        "other_journal")
                    writer.writerow(done)
                    yield done
            os.replace(kept, self.part)
        finally:
            kept.unlink(missing_ok=True)

    def _complete_rows(self) -> Iterator[dict[str, str]]:
        """Rows of the journal, without a last one that was cut off."""
        with open(self.part, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 1, 0))
            is_cut = file.read() != b"\n"
        with open(self.part, **_TEXT) as text:
            reader = csv.DictReader(text, strict=True)
            if reader.fieldnames != self._columns:
                raise DataError(f"{self.part}: columns {reader.fieldnames}; expected {self._columns}. It was written "
                                "by another model. Predict without --resume", "other_journal")
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
        try:
            with open(self.part, "a", **_TEXT) as file:
                csv.writer(file).writerows(self._cells(row, answer) for row, answer in zip(rows, answers))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; --resume goes on from here", str(self.part)) from error

    def _cells(self, row: Row, answer: Answer) -> list[str]:
        if isinstance(answer, AudioError):
            return [row.path, "", "", *("" for _ in self._labels), "", f"{answer.code}: {answer}"]
        kept = most_confident(answer.confidences, self._top_k)
        confidences = [f"{kept[label]:.6f}" if label in kept else "" for label in self._labels]
        return [row.path, answer.label, f"{answer.confidence:.6f}", *confidences, f"{answer.start_seconds:g}", ""]

    def finish(self) -> None:
        """Give the complete table its name, in the format that was asked for."""
        if self._kind != "csv":
            converted = self.part.with_name(f"{self.part.name}.{self._kind}")
            (self._write_parquet if self._kind == "parquet" else self._write_json_lines)(converted)
            os.replace(converted, self.part)
        os.replace(self.part, self.path)

    def _records(self) -> Iterator[dict[str, Any]]:
        """Rows of the finished journal with numbers as numbers, and None for what is empty."""
        texts = {"path", "label", "error"}
        with open(self.part, **_TEXT) as file:
            for row in csv.DictReader(file):
                yield {name: (value if name in texts else float(value)) if value or name == "path" else None
                       for name, value in row.items()}

    def _write_json_lines(self, path: Path) -> None:
        with open(path, "w", **_TEXT) as file:
            for row in self._records():
                confidences = {label: row.pop(label) for label in self._labels}
                row["confidences"] = {label: value for label, value in confidences.items() if value is not None}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _write_parquet(self, path: Path) -> None:
        import pyarrow as pa

        texts = ("path", "label", "error")
        schema = pa.schema([(name, pa.string() if name in texts else pa.float32()) for name in self._columns])
        records = self._records()
        with import_parquet(path).ParquetWriter(path, schema) as writer:
            while batch := [row for _, row in zip(range(_PARQUET_ROWS), records)]:
                writer.write_table(pa.Table.from_pylist(batch, schema))
