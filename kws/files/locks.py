"""One program at a time: locks on places on the disk, which end with the process that holds them, however it ends."""
from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from kws.errors import DataError

logger = logging.getLogger(__name__)


@contextmanager
def exclusive(path: Path, use: str) -> Iterator[None]:
    """Hold a file or folder that is written for as long as the block runs, by a lock file beside it.

    Args:
        path: what is written; it need not exist yet.
        use: what for, as another process is told: "a training".
    Raises:
        DataError: "in_use" if another process holds it.
    """
    place = path.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = place.with_name(f"{place.name}.lock")
    handle = _acquire(lock, path, use)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held: who waits for the name finds that it is another file
        os.close(handle)


def _acquire(lock: Path, path: Path, use: str) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 100).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise DataError(f"{path}: in use by {holder}; wait until it has ended, or choose another folder",
                            "in_use") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                os.close(handle)
                raise
            logger.warning("warning: %s: its file system has no locks; nothing else may write there meanwhile", path)
        if _is_still(lock, handle):
            os.truncate(handle, 0)
            os.write(handle, f"{use} (process {os.getpid()})\n".encode())
            return handle
        os.close(handle)  # its holder ended just now, and took the file away


def _is_still(lock: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(handle))
    except FileNotFoundError:
        return False
