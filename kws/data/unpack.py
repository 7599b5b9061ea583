"""Unpack a downloaded archive with care: it may be damaged, or hostile."""
from __future__ import annotations

import gzip
import os
import re
import tarfile
import zlib
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from kws.atomic import atomic_folder
from kws.errors import DataError

_MAX_READ_BYTES = 2**16  # tarfile copies in pieces of 16 KiB; a sound extended header has some hundred bytes
_MAX_NAME_BYTES = 255  # of one file or folder, on all common file systems
# What comes out of tarfile for a bad archive; the last three: a path used both as a file and as a folder.
_BAD_ARCHIVE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError,
                RecursionError, FileExistsError, IsADirectoryError, NotADirectoryError)


def check_destination(destination: Path) -> None:
    """Make sure, before anything is fetched, that an archive can be unpacked there.

    Raises:
        DataError: "not_empty" if `destination` is anything but a new or an empty folder.
    """
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise DataError(f"{destination}: in use; expected a new or an empty folder. "
                        "Remove it, or name another one", "not_empty")


def extract(archive_path: Path, destination: Path, max_bytes: int = 16 * 2**30,
            max_members: int = 500_000) -> int:
    """Unpack a .tar.gz of plain files and folders, wholly or not at all.

    Args:
        archive_path: the archive; it may be hostile.
        destination: a new or an empty folder.
        max_bytes: of all files together, unpacked; v0.02 has about 3e9.
        max_members: files and folders; v0.02 has about 1e5.
    Returns:
        number of files.
    Raises:
        DataError: "not_empty"; "bad_archive" if it is damaged, too large, or holds links, devices or paths
            that lead out of it.
    """
    check_destination(destination)
    # resolve(): a symbolic link to an empty folder on another disk stays one.
    with _Gunzip(archive_path) as stream, atomic_folder(destination.resolve()) as folder:
        try:
            return _unpack(stream, folder, max_bytes, max_members)
        except _BAD_ARCHIVE as error:
            problem = f"damaged, or no .tar.gz ({type(error).__name__}: {error})"
            raise DataError(f"{archive_path}: {problem}. Download it again", "bad_archive") from error


class _Gunzip(gzip.GzipFile):
    """The tar stream inside a .tar.gz: refuses giant reads and remembers the last block."""

    last = b""

    def read(self, size: Optional[int] = -1) -> bytes:
        """Read up to `size` bytes; only a forged header makes tarfile ask for very many or less than 0."""
        if size is None or not 0 <= size <= _MAX_READ_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        self.last = super().read(size)
        return self.last


def _unpack(stream: _Gunzip, folder: Path, max_bytes: int, max_members: int) -> int:
    num_bytes = num_members = num_files = 0
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tqdm(tar, desc=os.path.basename(stream.name), unit=" files", disable=None):
            num_bytes += member.size
            num_members += 1
            num_files += member.isfile()
            problem = _member_problem(member)
            if num_bytes > max_bytes or num_members > max_members:
                problem = f"over the limit of {max_bytes:,} bytes or {max_members:,} members"
            if problem:
                raise DataError(f"{stream.name}: {member.name!r}: {problem}. Do not trust this archive",
                                "bad_archive")
            tar.extract(member, folder, filter="data")
    _check_end(stream)
    if not num_files:
        raise tarfile.ReadError("no files in it")
    return num_files


def _check_end(stream: _Gunzip) -> None:
    """Refuse what tarfile lets pass: a damaged header (taken for the end), a wrong checksum of gzip."""
    proper = stream.last == bytes(tarfile.BLOCKSIZE)
    padding_bytes = 0
    while proper and (block := stream.read(_MAX_READ_BYTES)):
        padding_bytes += len(block)
        proper = not any(block) and padding_bytes <= 2**20  # writers pad to full records, usually of 10 KiB
    if not proper:
        raise tarfile.ReadError("it does not end as a tar does")


def _member_problem(member: tarfile.TarInfo) -> str:
    """Say why a member must not be unpacked; "" if it may. Stricter than tarfile's "data" filter: no link."""
    if re.match(r"[/\\]|[A-Za-z]:", member.name):
        return "an absolute path"
    parts = re.split(r"[/\\]", member.name)
    if ".." in parts:
        return "a path that leads out of the archive"
    if max(len(os.fsencode(part)) for part in parts) > _MAX_NAME_BYTES:
        return "a name that is too long"
    if member.issym() or member.islnk():
        return "a link"
    if not (member.isfile() or member.isdir()):
        return "neither a file nor a folder"
    return "a negative size" if member.size < 0 else ""
