"""One program at a time: locks on places on the disk, which end with the process that holds them, however it ends."""
from __future__ import annotations

import errno
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, TextIO

from kws.errors import DataError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)

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
    try:
        file = open_alone(lock)
    except BlockingIOError:
        holder = lock.read_text(encoding="utf-8", errors="replace").strip() or "another process"
        raise DataError(f"{path}: in use by {holder}; wait until it has ended, or choose another folder",
                        "in_use") from None
    with file:
        file.truncate(0)
        file.write(f"{use} (process {os.getpid()})\n")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # while it is held: who waits for the name finds that it is another file


def open_alone(path: Path) -> TextIO:
    """Open a text file to read and append, as the only process that does; made if it is not there.

    It is locked until it is closed, or until the process ends in whatever way. Its owner may remove it before that.

    Raises:
        BlockingIOError: if another process has it.
    """
    while True:
        file = open(path, "a+", encoding="utf-8", newline="")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logger.warning("warning: %s: its file system has no locks; nothing else may write there", path)
                return file
            file.close()
            raise
        file.close()  # its owner removed it between our opening it and locking it
