"""What a row of a table is, as CSV, JSON lines or Parquet.

Columns are path, label, confidence, one for each label, start_seconds, error. A label with the name of another column
gets the column `label:NAME`. Cells are not altered, so that a table can be used as a manifest: a spreadsheet takes a
file name such as `=1+1.wav` for a formula and should import the table as text.
"""
from __future__ import annotations

import csv
import io
import json
from itertools import islice
from typing import Any, BinaryIO, Iterable, Iterator, Mapping, Optional, Sequence, TextIO

from kws.errors import AudioError
from kws.inference.batch.inputs import Row
from kws.inference.decision import as_record
from kws.inference.spotter import Answer
from kws.model.labels import LabelSet

FORMATS = ("csv", "jsonl", "parquet")
# File names are bytes on Linux: what is not UTF-8 in them stands in CSV as it is, and is escaped elsewhere.
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
_TEXTS = ("path", "label", "error")
_OURS = (*_TEXTS, "confidence", "start_seconds")
_PARQUET_ROWS = 65536


class TableColumns:
    """The columns of a table.

    Args:
        labels: one column each.
        top_k: labels whose confidence is kept, the most probable; None: all.
    """

    def __init__(self, labels: LabelSet, top_k: Optional[int] = None) -> None:
        self._labels, self._top_k = labels, top_k
        self._label_columns = labels.columns(_OURS)
        self.names = ["path", "label", "confidence", *self._label_columns, "start_seconds", "error"]

    def cells(self, row: Row, answer: Answer) -> list[str]:
        """Return what the table says of a recording."""
        if isinstance(answer, AudioError):
            return [row.path, "", "", *("" for _ in self._labels), "", f"{answer.code}: {answer}"]
        told = as_record(answer, self._top_k)
        kept = told["confidences"]
        confidences = [f"{kept[label]:.6f}" if label in kept else "" for label in self._labels]
        return [row.path, told["label"], f"{told['confidence']:.6f}", *confidences, f"{told['start_seconds']:g}", ""]

    def header(self) -> bytes:
        """Return the first line of a CSV table."""
        return _lines([self.names])

    def lines(self, rows: Sequence[Row], answers: Sequence[Answer]) -> bytes:
        """Return the lines of recordings in a CSV table."""
        return _lines(self.cells(row, answer) for row, answer in zip(rows, answers))

    def convert(self, tables: Iterable[TextIO], kind: str, target: BinaryIO) -> None:
        """Write CSV tables, opened with TEXT, one after the other as one table of another of the FORMATS."""
        rows = (row for table in tables for row in csv.DictReader(table))
        (self._write_parquet if kind == "parquet" else self._write_json_lines)(map(_with_numbers, rows), target)

    def _write_json_lines(self, rows: Iterator[dict[str, Any]], target: BinaryIO) -> None:
        for row in rows:
            confidences = {label: row.pop(name) for label, name in zip(self._labels, self._label_columns)}
            row["confidences"] = {label: value for label, value in confidences.items() if value is not None}
            # What is not UTF-8 in a name becomes an escape of JSON (\udcff), which reads back as that name.
            target.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))

    def _write_parquet(self, rows: Iterator[dict[str, Any]], target: BinaryIO) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema([(name, pa.string() if name in _TEXTS else pa.float32()) for name in self.names])
        with parquet.ParquetWriter(target, schema) as writer:
            while batch := [_as_text(row) for row in islice(rows, _PARQUET_ROWS)]:
                writer.write_table(pa.Table.from_pylist(batch, schema))


def read_answers(table: BinaryIO, kind: str) -> Iterator[Mapping[str, str]]:
    """Yield label and error, "" for none, of every row of a table."""
    if kind == "parquet":
        from pyarrow import parquet

        rows: Iterable[Mapping[str, Optional[str]]] = parquet.read_table(table, columns=["label", "error"]).to_pylist()
    elif kind == "jsonl":
        rows = map(json.loads, table)
    else:
        rows = csv.DictReader(io.TextIOWrapper(table, **TEXT))
    for row in rows:
        yield {"label": row["label"] or "", "error": row["error"] or ""}


def _with_numbers(row: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with numbers as numbers, and None for what is empty."""
    return {name: (value if name in _TEXTS else float(value)) if value or name == "path" else None
            for name, value in row.items()}


def _as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as Parquet can hold it, in which text is UTF-8: other bytes of a name are escaped."""
    return {name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for name, value in row.items()}


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(TEXT["encoding"], TEXT["errors"])
