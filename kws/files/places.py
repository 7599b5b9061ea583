"""Files here and elsewhere: paths, and addresses such as s3://bucket/recordings, which fsspec reaches.

An address becomes a `UPath` (package universal-pathlib), which has the methods of `Path`; types say `Path` for both.
"""
from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterable, Iterator, Optional, Union

from kws.errors import DataError, first_line
from kws.files.atomic import atomic_file

_TELLING = (FileNotFoundError, DataError)  # errors that name the file, or say enough


def place(address: Union[str, os.PathLike[str]]) -> Path:
    """Return the path that an address means.

    Raises:
        DataError: "no_fsspec" if it is elsewhere and the packages that reach it are not installed.
    """
    if not is_remote(address):
        return Path(address)
    if not isinstance(address, str):
        return address  # type: ignore[return-value]
    try:
        from upath import UPath
        found: Any = UPath(address)
        found.fs  # what an object store needs is imported here
    except (ImportError, ValueError) as error:
        raise DataError(f"{address}: cannot be reached ({error}); pip install 'kws[ray]' brings what S3 needs",
                        "no_fsspec") from None
    return found


def is_remote(path: object) -> bool:
    """Tell whether a path, or the text of one, is the address of something elsewhere."""
    if isinstance(path, str):
        return "://" in path
    return not isinstance(path, (bytes, Path)) and hasattr(path, "fs")


@contextmanager
def reaching(path: object) -> Iterator[None]:
    """Turn what the libraries of object stores raise (no credentials, no such host) into a DataError "unreachable"."""
    try:
        yield
    except Exception as error:
        if not is_remote(path) or isinstance(error, _TELLING):
            raise
        raise DataError(f"{path}: cannot be reached: {first_line(error)}. Does this machine have credentials for it?",
                        "unreachable") from error


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; at the end it is at `path`, whole, in the place of what was there; nothing before that.

    What goes elsewhere is written to the temporary folder of this machine first.
    """
    if not is_remote(path):
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            yield file
        return
    remote: Any = path
    with tempfile.NamedTemporaryFile(prefix="kws-") as whole:
        yield whole  # type: ignore[misc]
        whole.flush()
        with reaching(path):
            remote.fs.put_file(whole.name, remote.path)


def read_range(path: Path, start: int = 0, end: Optional[int] = None) -> bytes:
    """Read bytes `start` to `end` of a file; None: to its end.

    Raises:
        OSError: of files here.
        DataError: "unreachable".
    """
    if is_remote(path):
        remote: Any = path
        with reaching(path):
            return remote.fs.cat_file(remote.path, start=start, end=end)
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(-1 if end is None else end - start)


def names_in(folder: Path) -> list[str]:
    """List the files and folders in a folder; an object store has no folder that is empty, or missing."""
    if not is_remote(folder):
        return os.listdir(folder)
    remote: Any = folder
    with reaching(folder):
        remote.fs.invalidate_cache()
        try:
            return [name.rstrip("/").rpartition("/")[2] for name in remote.fs.ls(remote.path, detail=False)]
        except FileNotFoundError:
            return []


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files of a folder."""
    if not is_remote(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return
    remote: Any = folder
    with reaching(folder):
        if paths := [(folder / name).path for name in names]:  # type: ignore[attr-defined]
            remote.fs.rm(paths)


def stamp(path: Union[Path, str]) -> str:
    """Describe a file as its file system does, without reading it: another text after the file was changed.

    Raises:
        OSError, ValueError: if there is no such file.
        DataError: "no_fsspec", "unreachable".
    """
    if is_remote(path):
        remote: Any = place(path)
        with reaching(remote):
            return f"{remote.fs.info(remote.path)['size']} {remote.fs.ukey(remote.path)}"
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns}"
