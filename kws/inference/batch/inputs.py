"""Inputs of a prediction: rows of a manifest, audio files of a folder, or one file; read as needed."""
from __future__ import annotations

import csv
import logging
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from kws.audio.folders import SUFFIXES, count_passed_over, describe, entries
from kws.errors import DataError, first_line
from kws.files.places import is_remote, reaching, stamp

_PARQUET_ROWS = 8192
_NO_FILE = "-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A recording to label.

    Args:
        path: as the manifest has it, or relative to the folder.
        location: where it is; an address as text, which is reached when it is read.
        target: the manifest's `label`; None where that is blank, or there is no such column.
    """

    path: str
    location: Union[Path, str]
    target: Optional[str] = None

    def stamp(self) -> str:
        """Describe the recording without reading it; renaming folders leaves it."""
        try:
            return stamp(self.location)
        except (OSError, ValueError, DataError):  # not there, not to be reached, or no name that a file can have
            return _NO_FILE


@dataclass(frozen=True)
class Inputs:
    """Recordings to label; iterate as often as you like, memory stays flat.

    Args:
        count: of rows.
        has_targets: whether rows may have a target.
        read: starts an iteration.
        passed_over: what a folder holds besides, by kind.
    """

    count: int
    has_targets: bool
    read: Callable[[], Iterator[Row]]
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return self.read()


def list_inputs(*sources: Path) -> Inputs:
    """List manifests (.csv or .parquet with a column `path`, relative to it), folders and audio files.

    They may be elsewhere (see `kws.files.places`), and so may what a manifest lists. With several sources, rows of
    folders and files are named as seen from the current folder. What a folder holds besides recordings (see
    `kws.audio.folders`) is counted in a warning.

    Raises:
        DataError: if there is no such thing, or a manifest cannot be read or has no column `path`; "unreachable".
    """
    if len(sources) == 1:
        return _list_source(sources[0])
    listings = [_list_source(source) for source in sources]

    def rows() -> Iterator[Row]:
        for source, listing in zip(sources, listings):
            is_manifest = source.suffix.lower() in (".csv", ".parquet") and not source.is_dir()
            yield from (row if is_manifest else replace(row, path=str(row.location)) for row in listing)

    passed_over: Counter[str] = sum((Counter(listing.passed_over) for listing in listings), Counter())
    return Inputs(sum(listing.count for listing in listings), any(listing.has_targets for listing in listings), rows,
                  passed_over)


def _list_source(source: Path) -> Inputs:
    with reaching(source):
        listing = _list(source)
    return replace(listing, read=lambda: _reached(source, listing)) if is_remote(source) else listing


def _reached(source: Path, listing: Inputs) -> Iterator[Row]:
    with reaching(source):
        yield from listing


def _list(source: Path) -> Inputs:
    if source.is_dir():
        return _list_folder(source)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; expected a recording, a folder or a manifest",
                        "no_input")
    if source.suffix.lower() == ".parquet":
        return _rows_of_table(source, _read_parquet)
    if source.suffix.lower() == ".csv":
        return _rows_of_table(source, _read_csv)
    return Inputs(1, False, lambda: iter([Row(source.name, source)]))


def _list_folder(folder: Path) -> Inputs:
    """List the recordings of a folder; a folder in it that cannot be listed is a row."""
    count, passed_over = count_passed_over(entries(folder))
    told = describe(passed_over)
    if not count:
        raise DataError(f"{folder}: no audio files in it; expected {SUFFIXES}{told and f'. {told}'}", "no_input")
    if told:
        logger.warning("%s: %s; recordings end with %s", folder, told, SUFFIXES)

    def rows() -> Iterator[Row]:
        return (Row(entry.path, folder / entry.path) for entry in entries(folder) if not entry.passed_over)

    return Inputs(count, False, rows, passed_over)


def _rows_of_table(source: Path, read: Callable[[Path], Iterator[Any]]) -> Inputs:
    """Rows of a manifest, read through once beforehand: what is wrong with it is known before the work starts."""
    if not source.is_file():
        raise DataError(f"{source}: a pipe or device; expected a file, which can be read again", "bad_manifest")
    columns = list(next(read(source)))
    if "path" not in columns:
        raise DataError(f"{source}: no column path; found {', '.join(map(str, columns)) or 'nothing'}",
                        "no_path_column")
    for name in ("path", "label"):
        if columns.count(name) > 1:
            raise DataError(f"{source}: {columns.count(name)} columns called {name}; expected one", "bad_manifest")

    parent, has_targets = source.parent, "label" in columns

    def rows() -> Iterator[Row]:
        table = read(source)
        next(table)
        for row in table:
            path, label = str(row["path"] or ""), str(row["label"] or "") if has_targets else ""
            yield Row(path, _locate(parent, path), label if label.strip() else None)

    return Inputs(sum(1 for _ in read(source)) - 1, has_targets, rows)


def _locate(parent: Path, path: str) -> Union[Path, str]:
    """Find the file that a manifest means: other systems write backslashes, and another form of the same letters."""
    if is_remote(path):
        return path
    if "\\" not in path and path.isascii() or is_remote(parent):
        return parent / path
    spellings = [path, *(unicodedata.normalize(form, spelling) for spelling in (path, path.replace("\\", "/"))
                         for form in ("NFC", "NFD"))]
    return next((parent / spelling for spelling in spellings if _exists(parent / spelling)), parent / path)


def _exists(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte, half a character
        return False


def _read_csv(source: Path) -> Iterator[Any]:
    """Yield the names of the columns, then the rows as dictionaries."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)  # else a stray quote takes rows with it in silence
            yield reader.fieldnames or ()
            yield from reader
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start:,})", "bad_manifest") from None
    except csv.Error as error:
        raise DataError(f"{source}: not readable as CSV from line {reader.line_num + 1} on ({error}); "
                        'expected quotes in pairs around a cell, and "" for a quote inside', "bad_manifest") from None


def _read_parquet(source: Path) -> Iterator[Any]:
    """As `_read_csv`."""
    parquet = import_parquet(source)
    try:
        with source.open("rb") as stored, parquet.ParquetFile(stored) as file:
            names: Sequence[str] = file.schema_arrow.names
            yield names
            wanted = [name for name in ("path", "label") if name in names]
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{source}: not readable as Parquet ({first_line(error)})", "bad_manifest") from None


def import_parquet(path: Path) -> Any:
    """Import pyarrow.parquet, which is not needed for anything else; raises DataError where it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs the package pyarrow, which is not installed; use CSV",
                        "no_parquet") from None
    return parquet
