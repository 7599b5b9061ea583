"""A table in parts, which several machines write: what each part is of, which are done, and the whole of them.

The folder holds `_table.json` (what the table belongs to), while work goes on `_inputs.jsonl` (what is to be labelled)
and `_model.zip`, and a table per part, `part-000012-3f9ab2c4d1e05a77.parquet`. The last field of its name is a digest
of all that decides its rows: program, model, settings, the recordings with size and time. So a part that is there is
right, whoever wrote it, and a part that was written twice is there once.
"""
from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import zipfile
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import AbstractSet, Any, BinaryIO, Optional, Sequence

import kws
from kws.errors import DataError
from kws.files.places import is_remote, names_in, read_range, remove, replaced
from kws.inference.batch.columns import TEXT, TableColumns, read_answers
from kws.inference.batch.detection_table import DETECTIONS_HEADER, detection_lines
from kws.inference.batch.inputs import Inputs, Row
from kws.inference.batch.labelling import label_rows
from kws.inference.batch.summary import Summary
from kws.inference.batch.table import check_belongs
from kws.inference.spotter import KeywordSpotter

_STATE, _INPUTS, _MODEL = "_table.json", "_inputs.jsonl", "_model.zip"
_ATTEMPT = "_attempt-"
# Files of a table in parts, and what their writers leave when they are killed.
_OURS = re.compile(r"\.?(_table\.json|_inputs\.jsonl|_model\.zip|_attempt-\d{6}|"
                   r"(part|detections)-\d{6}-[0-9a-f]{16}\.\w+)(\.[0-9a-f]{8}\.(new|old))?")
_SHARED = "the folder must be one that all nodes share, or an address such as s3://bucket/folder"
_LEAST_ROWS, _MOST_PARTS = 1000, 10_000  # seconds of work, and what a folder lists quickly
_ATTEMPTS = 4  # to label one part
_REMOTE_THREADS = 8  # an object store answers late, but many at a time


@dataclass(frozen=True)
class Part:
    """Rows of a table that belong together.

    Args:
        number: from 0, in the order of the table.
        start, end: bytes of the list of inputs.
    """

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class PartsFolder:
    """The folder of a table in parts.

    Args:
        path: of the folder; all machines must reach it.
        kind: format of the parts: "csv", "jsonl" or "parquet".
        model: digest of the model.
        threshold: 0..1, the least confidence of a keyword.
        top_k: labels whose confidence is kept, the most probable; None: all.
        detections: whether each part has a table of detections beside it.
    """

    path: Path
    kind: str
    model: str
    threshold: float = 0.0
    top_k: Optional[int] = None
    detections: bool = False

    @property
    def belongs_to(self) -> dict[str, Any]:
        """What decides the rows, besides the recordings."""
        settings = asdict(self)
        del settings["path"]
        return {"program": "kws.predict", "version": kws.__version__, **settings}

    def begin(self, inputs: Inputs, model: Path, resume: bool) -> list[Part]:
        """Put there what is to be labelled and the model, and return the parts.

        Args:
            inputs: what is to be labelled.
            model: folder, or ONNX file.
            resume: whether to keep the parts of an earlier run.
        Raises:
            DataError: "not_a_table" if the folder holds something else; "other_table" if there is nothing to resume.
        """
        self._take(resume)
        with replaced(self.path / _MODEL) as file, zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
            for path in [model] if model.is_file() else sorted(model.iterdir()):
                if path.is_file():
                    archive.write(path, path.name)
        rows_per_part = max(_LEAST_ROWS, -(-inputs.count // _MOST_PARTS))
        rows, parts, end = iter(inputs), list[Part](), 0
        with replaced(self.path / _INPUTS) as file:
            while batch := list(islice(rows, rows_per_part)):
                start = end
                end += file.write(b"".join(map(_listed, batch)))
                parts.append(Part(len(parts), start, end))
        return parts

    def _take(self, resume: bool) -> None:
        if not is_remote(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        names = names_in(self.path)
        if _STATE in names:
            if resume:
                check_belongs(read_range(self.path / _STATE), self.belongs_to, self.path, self.path / _STATE)
        elif not all(map(_OURS.fullmatch, names)):
            raise DataError(f"{self.path}: holds other files and no {_STATE}; choose another folder", "not_a_table")
        self._clear(set() if not resume else {name for name in names if not name.startswith(_ATTEMPT)})
        with replaced(self.path / _STATE) as file:
            file.write(json.dumps(self.belongs_to, ensure_ascii=False).encode())

    def _clear(self, kept: AbstractSet[str]) -> None:
        """Remove what a prediction put there; what others did stays."""
        remove(self.path, [name for name in names_in(self.path) if _OURS.fullmatch(name) and name not in kept])

    def unpack_model(self, target: Path) -> Path:
        """Unpack the model into a folder, on a machine that need not have it; return where it is.

        Raises:
            DataError: "not_shared" if this machine does not see the folder of the parts.
        """
        try:
            packed = read_range(self.path / _MODEL)
        except FileNotFoundError:
            raise DataError(f"{self.path}: not seen by {socket.gethostname()}; {_SHARED}", "not_shared") from None
        zipfile.ZipFile(io.BytesIO(packed)).extractall(target)
        files = list(target.iterdir())
        return files[0] if len(files) == 1 else target

    def label(self, part: Part, spotter: KeywordSpotter, batch_size: int) -> tuple[str, Summary]:
        """Write the table of a part, if it is not there.

        Returns:
            its name, and what came out.
        """
        listed = read_range(self.path / _INPUTS, part.start, part.end)
        rows = [_row(line) for line in listed.splitlines()]
        name, summary = self._name(part, listed, rows), Summary(spotter.labels)
        if (self.path / name).exists():
            answers = read_answers(io.BytesIO(read_range(self.path / name)), self.kind)
            for row, written in zip(rows, answers):
                summary.add_written(row, written)
            return name, summary
        self._count_attempt(part)
        columns = TableColumns(spotter.labels, self.top_k)
        table, detections = [columns.header()], [DETECTIONS_HEADER]
        threads = _REMOTE_THREADS if any(is_remote(row.location) for row in rows) else 1
        for batch, heard in label_rows(spotter, iter(rows), self.threshold, batch_size, threads):
            table.append(columns.lines(batch, heard))
            detections += map(detection_lines, batch, heard)
            summary.add(batch, heard)
        if self.detections:
            with replaced(self.path / _detections_of(name)) as file:
                file.writelines(detections)
        with replaced(self.path / name) as file:
            if self.kind == "csv":
                file.writelines(table)
            else:
                columns.convert([io.TextIOWrapper(io.BytesIO(b"".join(table)), **TEXT)], self.kind, file)
        return name, summary

    def _count_attempt(self, part: Part) -> None:
        """Whoever hands out parts repeats what was lost with a process, for ever if that is the part's own fault."""
        path = self.path / f"{_ATTEMPT}{part.number:06d}"
        attempts = int(read_range(path)) + 1 if path.exists() else 1
        if attempts > _ATTEMPTS:
            raise DataError(f"{self.path}: part {part.number} ended its process {_ATTEMPTS} times. Is the memory of a "
                            "node short? Fewer --workers or a smaller --batch_size need less", "lost_work")
        with replaced(path) as file:
            file.write(str(attempts).encode())

    def _name(self, part: Part, listed: bytes, rows: Sequence[Row]) -> str:
        digest = hashlib.sha256(json.dumps(self.belongs_to, sort_keys=True).encode() + b"\n" + listed)
        for row in rows:
            digest.update(row.stamp().encode() + b"\n")
        return f"part-{part.number:06d}-{digest.hexdigest()[:16]}.{self.kind}"

    def finish(self, names: Sequence[str]) -> None:
        """Leave these parts in the folder and no others.

        Raises:
            DataError: "not_shared" if some are not there.
        """
        kept = {_STATE, *names, *(map(_detections_of, names) if self.detections else ())}
        found = set(names_in(self.path))
        if missing := sorted(kept - found):
            raise DataError(f"{self.path}: {len(missing):,} parts are not there, {missing[0]} for one; {_SHARED}",
                            "not_shared")
        self._clear(kept)

    def join(self, names: Sequence[str], columns: TableColumns, path: Path, kind: str) -> None:
        """Write the parts, which are CSV, as one table in order."""
        with replaced(path) as target:
            if kind == "csv":
                self._concatenate(names, columns.header(), target)
            else:
                tables = (io.TextIOWrapper(io.BytesIO(read_range(self.path / name)), **TEXT) for name in names)
                columns.convert(tables, kind, target)

    def join_detections(self, names: Sequence[str], path: Path) -> None:
        """Write the tables of detections as one."""
        with replaced(path) as target:
            self._concatenate(list(map(_detections_of, names)), DETECTIONS_HEADER, target)

    def _concatenate(self, names: Sequence[str], header: bytes, target: BinaryIO) -> None:
        target.write(header)
        for name in names:
            target.write(read_range(self.path / name, len(header)))

    def remove(self) -> None:
        """Remove the folder, but not what others put there."""
        self._clear(set())
        if not is_remote(self.path) and not names_in(self.path):
            self.path.rmdir()


def _detections_of(name: str) -> str:
    return f"detections-{name.partition('-')[2].rpartition('.')[0]}.csv"


def _listed(row: Row) -> bytes:
    location = str(row.location)
    if not is_remote(location) and not os.path.isabs(location):
        location = os.path.abspath(location)
    return json.dumps([row.path, location, row.target]).encode() + b"\n"


def _row(line: bytes) -> Row:
    path, location, target = json.loads(line)
    return Row(path, location if is_remote(location) else Path(location), target)
