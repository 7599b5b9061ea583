"""What is to be labelled: the rows of a manifest, the audio files of a folder, or one file; read as they are needed."""
from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

from kws.audio import AUDIO_SUFFIXES
from kws.errors import DataError

_PARQUET_ROWS = 8192


@dataclass(frozen=True)
class Row:
    """A recording to label.

    Args:
        path: as the manifest has it, or relative to the folder.
        location: where it is.
        target: the manifest's `label`, if it has that column.
    """

    path: str
    location: Path
    target: Optional[str] = None


@dataclass(frozen=True)
class Listing:
    """Recordings to label; iterate as often as you like, memory stays flat.

    Args:
        count: of rows.
        has_targets: whether rows have a target.
        read: starts an iteration.
    """

    count: int
    has_targets: bool
    read: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Row]:
        return self.read()


def list_rows(source: Path) -> Listing:
    """List a manifest (.csv or .parquet with a column `path`, relative to it), a folder, or one audio file.

    Raises:
        DataError: if there is no such thing, or a manifest cannot be read or has no column `path`.
    """
    if source.is_dir():
        listing = _listing(lambda: _rows_of_folder(source))
        if not listing.count:
            raise DataError(f"{source}: no audio files in it; expected {', '.join(sorted(AUDIO_SUFFIXES))}", "no_input")
        return listing
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; expected a manifest CSV, a folder or an audio file",
                        "no_input")
    if source.suffix.lower() == ".parquet":
        return _rows_of_table(source, _read_parquet)
    if source.suffix.lower() == ".csv":
        return _rows_of_table(source, _read_csv)
    return _listing(lambda: iter([Row(source.name, source)]))


def _listing(read: Callable[[], Iterator[Row]], has_targets: bool = False) -> Listing:
    return Listing(sum(1 for _ in read()), has_targets, read)


def _rows_of_folder(folder: Path) -> Iterator[Row]:
    """Audio files of a folder and its subfolders in the order of their names; a folder that cannot be read is a row."""
    unreadable: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: unreadable.append(error.filename)):
        folders.sort()
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                location = Path(parent, name)
                yield Row(str(location.relative_to(folder)), location)
    for parent in unreadable:
        yield Row(str(Path(parent).relative_to(folder)), Path(parent))


def _rows_of_table(source: Path, read: Callable[[Path], Iterator[dict[str, Any]]]) -> Listing:
    """Rows of a manifest, read through once beforehand: what is wrong with it is known before the work starts."""
    columns = next(read(source))
    if "path" not in columns:
        raise DataError(f"{source}: no column path; found {', '.join(map(str, columns)) or 'nothing'}",
                        "no_path_column")

    def rows() -> Iterator[Row]:
        table = read(source)
        next(table)
        for row in table:
            path = str(row["path"] or "")
            yield Row(path, source.parent / path, str(row["label"] or "") if "label" in columns else None)

    return _listing(rows, "label" in columns)


def _read_csv(source: Path) -> Iterator[dict[str, Any]]:
    """Yield the columns, as the keys of a dictionary, then the rows."""
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            yield dict.fromkeys(reader.fieldnames or ())
            yield from reader
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start:,})", "bad_manifest") from None
    except csv.Error as error:
        raise DataError(f"{source}: not readable as CSV ({error})", "bad_manifest") from None


def _read_parquet(source: Path) -> Iterator[dict[str, Any]]:
    """As `_read_csv`."""
    parquet = import_parquet(source)
    try:
        with parquet.ParquetFile(source) as file:
            names: Sequence[str] = file.schema_arrow.names
            yield dict.fromkeys(names)
            wanted = [name for name in ("path", "label") if name in names]
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{source}: not readable as Parquet ({str(error).splitlines()[0]})", "bad_manifest") from None


def import_parquet(path: Path) -> Any:
    """Import pyarrow.parquet, which is not needed for anything else; raises DataError where it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs the package pyarrow, which is not installed; use CSV",
                        "no_parquet") from None
    return parquet
