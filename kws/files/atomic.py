"""Write files and folders atomically: readers never see a partial result, even after an interruption.

New content is written beside the old as `.NAME.xxxxxxxx.new`, flushed to the disk, and takes its place in one step.
Whoever is killed leaves such a file or folder behind, and the next write of the same name removes it: writers hold a
shared lock on the folder around them, so one that gets this lock alone knows that the leftovers are nobody's.

Two folders cannot change places in one step everywhere. Where they cannot, the old one is `.NAME.xxxxxxxx.old` for a
moment; `recover` brings it back if the writer was killed in that moment. Every write does, and so do readers.
"""
from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, so leftovers stay
    fcntl = None  # type: ignore[assignment]

_FULL_BYTES = 256 * 1024  # less free space than this after a failed write means that the disk is full
_MANY_FILES = 100  # beyond it, flushing the file system costs less than flushing them one by one
_EXCHANGE, _CURRENT_FOLDER = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there on success, remove it on any failure; see `check_file`."""
    check_file(path)
    with _writing(path) as temporary:
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            mode = stat.S_IMODE(temporary.stat().st_mode)
            with explain_full_disk(path):
                yield temporary
            os.chmod(temporary, mode)  # some writers (safetensors) make files for their owner only
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
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
    with _writing(path) as temporary:
        try:
            temporary.mkdir()
            mode = stat.S_IMODE(temporary.stat().st_mode)
            with explain_full_disk(path):
                yield temporary
            _complete(temporary, mode)
            if not path.exists():
                os.replace(temporary, path)
            elif not _exchange(temporary, path):
                _replace_folder(temporary, path)
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def recover(path: Path) -> None:
    """Bring back a folder whose writer was killed while another took its place; do nothing in all other cases."""
    path = path.resolve()
    if os.path.lexists(path) or not _leftovers(path):
        return
    with suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            if _lock(handle, alone=True):
                _bring_back(path)
        finally:
            os.close(handle)


def check_replaceable(path: Path, marker: str, text: str = "", outside: Iterable[Path] = ()) -> None:
    """Refuse to put a result in the place of a folder that holds something else.

    Args:
        path: of the result.
        marker: a file that every earlier result of this kind holds.
        text: that this file holds where it is one of ours, if others make files of this name.
        outside: what must not be lost with the folder, for example the input.
    Raises:
        FileExistsError: if `path` is a folder with something in it, but not the marker, or holds one of `outside`.
    """
    recover(path)
    if path.is_dir() and any(path.iterdir()) and not _holds(path / marker, text):
        raise FileExistsError(errno.EEXIST, f"holds other files and no {marker}{' of ours' if text else ''}; choose "
                              "another folder", str(path))
    for other in outside:
        if other.resolve().is_relative_to(path.resolve()):
            raise FileExistsError(errno.EEXIST, f"holds {other}, which would be lost; choose another folder", str(path))


def check_file(path: Path) -> None:
    """Raise FileExistsError where a file would take the place of something else, such as /dev/stdout."""
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "a folder, pipe or device; expected the name of a file", str(path))


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn the errors that libraries raise on a full disk (RuntimeError, SafetensorError) into an OSError."""
    try:
        yield
    except Exception as error:
        already_clear = isinstance(error, OSError) and error.errno is not None
        if already_clear or shutil.disk_usage(path.parent).free > _FULL_BYTES:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def flush(path: Path) -> None:
    """Return when a file, or the list of the files of a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Yield a free name beside `path`, without the leftovers of those who were killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path.parent, os.O_RDONLY)
    except PermissionError:  # a folder to write to but not to list
        handle = -1
    try:
        if handle >= 0:
            if _lock(handle, alone=True):
                _clear(path)
            _lock(handle, alone=False)
        yield path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    finally:
        if handle >= 0:
            os.close(handle)


def _lock(handle: int, alone: bool) -> bool:
    """Lock a folder: for us alone, if nobody else has it, or together with others. Tell whether that was done."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError as error:
        if isinstance(error, BlockingIOError) or error.errno in _CANNOT:
            return False
        raise
    return True


def _leftovers(path: Path) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.(new|old)")
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return []
    return [path.with_name(name) for name in names if pattern.fullmatch(name)]


def _clear(path: Path) -> None:
    """Remove what killed writers of `path` left, after the old folder is where it belongs."""
    _bring_back(path)
    for leftover in _leftovers(path):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _bring_back(path: Path) -> None:
    old = [leftover for leftover in _leftovers(path) if leftover.suffix == ".old"]
    if old and not os.path.lexists(path):
        os.replace(old[-1], path)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; return False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if not rename(_CURRENT_FOLDER, os.fsencode(first), _CURRENT_FOLDER, os.fsencode(second), _EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of the folder `path` in two steps; whatever is raised between them, one is there."""
    old = new.with_suffix(".old")
    try:
        os.replace(path, old)
        os.replace(new, path)
    except BaseException:
        if not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _complete(folder: Path, mode: int) -> None:
    """Give a finished folder, its folders and files the usual permissions, and flush it to the disk."""
    os.chmod(folder, mode)
    paths = [path for path in folder.rglob("*") if not path.is_symlink()]
    for path in paths:
        os.chmod(path, mode if path.is_dir() else mode & 0o666)
    if len(paths) > _MANY_FILES:
        os.sync()
        return
    for path in (*paths, folder):
        flush(path)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and (not text or text in path.read_text(encoding="utf-8", errors="replace"))
