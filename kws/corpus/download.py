"""Fetch the real Speech Commands recordings (CC BY 4.0): download with resume, check the SHA-256, unpack."""
from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tarfile
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Iterator

import requests
import urllib3
from tqdm import tqdm

from kws.errors import DataError
from kws.files.atomic import atomic_folder

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 2**16  # what a reset connection may lose
_TRY_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP: the same request may succeed soon


@dataclass(frozen=True)
class Archive:
    """A published archive: the file's name, where it is (http or https), and its SHA-256, 64 lower-case hex digits.

    Raises:
        DataError: "bad_checksum" if `sha256` is no SHA-256.
    """

    name: str
    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise DataError(f"sha256 {self.sha256!r}: expected 64 hex digits", "bad_checksum")


_HOME = "https://storage.googleapis.com/download.tensorflow.org/data"
# SHA-256 of v0.02 and v0.02-test: tensorflow/datasets, url_checksums/speech_commands.txt; of v0.01: torchaudio,
# datasets/speechcommands.py. Nobody published one of v0.01's fixed test set, so it is not here.
ARCHIVES = {version: Archive(name, f"{_HOME}/{name}", sha256) for version, name, sha256 in (
    ("v0.01", "speech_commands_v0.01.tar.gz", "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"),
    ("v0.02", "speech_commands_v0.02.tar.gz", "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"),
    ("v0.02-test", "speech_commands_test_set_v0.02.tar.gz",
     "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df"))}


def download(archive: Archive, folder: Path, tries: int = 6, pause_seconds: float = 2.0,
             timeout_seconds: float = 60.0) -> Path:
    """Download an archive, continuing what an earlier call began; do nothing if it is already there.

    Args:
        archive: what to fetch.
        folder: gets `archive.name` once its digest is right; until then what has come is `archive.name + ".part"`.
        tries: requests in all, where connections break or the server is busy.
        pause_seconds: before the second request; before the third twice as long, and so on.
        timeout_seconds: how long a silent server is waited for.
    Returns:
        the path of the archive.
    Raises:
        DataError: "download_failed" (a later call continues) or "bad_checksum" (what came was removed).
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    if path.is_file():
        if _sha256(path) == archive.sha256:
            logger.info("%s: already there", path)
            return path
        logger.warning("%s: not the published file; fetching it again", path)
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, tries + 1):
        try:
            _receive(archive, part, timeout_seconds)
            break
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            reason = _innermost(error)
        except requests.RequestException as error:
            raise DataError(f"{archive.url}: {error}; expected an http or https address", "download_failed") from error
        if attempt == tries:
            raise DataError(f"{archive.url}: {reason}; gave up after {tries} tries. {_size(part):,} bytes are in "
                            f"{part}; the same command continues from there", "download_failed")
        logger.warning("%s: %s; %s bytes so far, trying again", archive.name, reason, f"{_size(part):,}")
        time.sleep(pause_seconds * attempt)
    found = _sha256(part)
    if found != archive.sha256:
        part.unlink()
        raise DataError(f"{archive.url}: sha256 {found}; expected {archive.sha256}. What came was removed; run the "
                        "command again to start over, or name a mirror with --url", "bad_checksum")
    os.replace(part, path)
    return path


def _receive(archive: Archive, part: Path, timeout_seconds: float) -> None:
    """Request the missing bytes once and append them; the digest is checked later."""
    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(archive.url, headers=headers, stream=True, timeout=timeout_seconds) as response:
        status = response.status_code
        if status == 416:  # nothing follows: an earlier call was interrupted after the last byte
            return
        if status in _TRY_LATER:
            raise requests.ConnectionError(f"HTTP {status} {response.reason}")
        if status not in (200, 206):
            raise DataError(f"{archive.url}: HTTP {status} {response.reason}; expected the archive. "
                            "Is the address right?", "download_failed")
        start = start if status == 206 else 0  # 200: the whole file, from a server that cannot continue
        missing = response.raw.length_remaining
        with _named(part), open(part, "ab" if start else "wb") as file, tqdm.wrapattr(
                file, "write", missing and start + missing, initial=start, desc=archive.name, disable=None) as writer:
            # The raw stream: requests would decompress what a server labels "Content-Encoding: gzip".
            shutil.copyfileobj(response.raw, writer, _CHUNK_BYTES)


def check_destination(destination: Path) -> None:
    """Make sure, before anything is fetched, that an archive can be unpacked there.

    Raises:
        DataError: "not_empty" if `destination` is anything but a new or an empty folder.
    """
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise DataError(f"{destination}: in use; expected a new or an empty folder. "
                        "Remove it, or name another one", "not_empty")


def extract(path: Path, destination: Path) -> int:
    """Unpack an archive whose digest was right, wholly or not at all, and return the number of files.

    Raises:
        DataError: "not_empty"; "bad_archive" if it is no .tar.gz, or one that leads out of the folder.
    """
    check_destination(destination)
    try:
        with tarfile.open(path, "r:gz") as tar, atomic_folder(destination) as folder, _named(destination):
            return _unpack(tar, folder, path.name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); expected a .tar.gz of recordings",
                        "bad_archive") from error


def _unpack(tar: tarfile.TarFile, folder: Path, name: str) -> int:
    """Write the files and folders of an archive, nothing else and nowhere else; return the number of files.

    `extractall(filter="data")` is not in every Python 3.11: Debian 12 has 3.11.2.
    """
    count = 0
    for member in tqdm(tar, desc=name, unit=" files", disable=None):
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name}: not a file or folder below that of the archive")
        (folder / place if member.isdir() else folder / place.parent).mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)  # None of a folder
        if content is not None:
            with content, open(folder / place, "wb") as file:
                shutil.copyfileobj(content, file)
            count += 1
    return count


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the path to errors of failed writes, such as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _innermost(error: BaseException) -> str:
    """Name the cause in one line: the errors around it are pages long."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}"
