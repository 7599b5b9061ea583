"""Write files and folders whole or not at all: a reader never meets half a result, whatever interrupts us."""
from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

_FULL_BYTES = 256 * 1024  # less free space than this after a failed write means that the disk is full


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there on success, remove it on any failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        with explain_full_disk(path):
            yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`, else it is removed.

    Raises:
        NotADirectoryError: if `path` is something else; a link to a folder is followed, and stays.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        with explain_full_disk(path):
            yield temporary
        _open_permissions(temporary)
        if path.exists():
            _replace_folder(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of the folder `path`; whatever happens between the two renames, one of them is there."""
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        os.replace(path, old)
        os.replace(new, path)
    except BaseException:
        if not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def check_replaceable(path: Path, marker: str) -> None:
    """Refuse to put a result in the place of a folder that holds something else.

    Args:
        path: of the result.
        marker: a file that every earlier result of this kind holds.
    Raises:
        FileExistsError: if `path` is a folder with something in it, but not the marker.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise FileExistsError(errno.EEXIST, f"holds other files and no {marker}; choose another folder", str(path))


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Writers name a full disk in their own ways (RuntimeError, SafetensorError): make all of them an OSError."""
    try:
        yield
    except Exception as error:
        already_clear = isinstance(error, OSError) and error.errno is not None
        if already_clear or shutil.disk_usage(path.parent).free > _FULL_BYTES:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _open_permissions(folder: Path) -> None:
    """Give a finished folder the usual permissions; some writers (safetensors) make files for their owner only."""
    closed_to = _umask()
    os.chmod(folder, 0o777 & ~closed_to)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            os.chmod(path, (0o777 if path.is_dir() else 0o666) & ~closed_to)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
