"""Fetch the real Speech Commands recordings (CC BY 4.0): download with resume, then check."""
from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import requests
import urllib3
from tqdm import tqdm

from kws.errors import DataError

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 2**16  # what a reset connection may lose
_TRY_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP: the same request may succeed soon


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Args:
        name: the file's name on disk.
        url: http or https.
        sha256: 64 hex digits; None: nobody published one, the content is not verified.
        num_bytes: size of the file; None: unknown.
    Raises:
        DataError: "bad_checksum" if `sha256` is no SHA-256.
    """

    name: str
    url: str
    sha256: Optional[str]
    num_bytes: Optional[int]

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", self.sha256):
            raise DataError(f"sha256 {self.sha256!r}: expected 64 hex digits", "bad_checksum")


def _published(name: str, sha256: Optional[str], num_bytes: Optional[int]) -> Archive:
    url = f"https://storage.googleapis.com/download.tensorflow.org/data/{name}"
    return Archive(name, url, sha256, num_bytes)


# SHA-256 and sizes of v0.02 and v0.02-test: tensorflow/datasets, url_checksums/speech_commands.txt. v0.01:
# torchaudio, datasets/speechcommands.py; its size: a public log of wget. No source was found for v0.01-test.
ARCHIVES = {
    "v0.01": _published("speech_commands_v0.01.tar.gz",
                        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d", 1_489_096_277),
    "v0.02": _published("speech_commands_v0.02.tar.gz",
                        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58", 2_428_923_189),
    "v0.01-test": _published("speech_commands_test_set_v0.01.tar.gz", None, None),
    "v0.02-test": _published("speech_commands_test_set_v0.02.tar.gz",
                             "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df", 112_563_277),
}


def download(archive: Archive, folder: Path, retries: int = 5, backoff_seconds: float = 1.0,
             timeout_seconds: float = 60.0) -> Path:
    """Download an archive, continuing what an earlier call began; do nothing if it is already there.

    Args:
        archive: what to fetch.
        folder: gets `archive.name`, once it is whole and verified; `archive.name + ".part"` until then.
        retries: how often a broken connection or a busy server is tried again.
        backoff_seconds: pause before the first retry; each later one takes twice as long.
        timeout_seconds: how long a silent server is waited for.
    Returns:
        the path of the archive.
    Raises:
        DataError: "download_failed" (a later call continues), "bad_checksum" (what came was removed).
    """
    path = folder / archive.name
    if path.is_file():
        problem = _problem(archive, path)
        if not problem:
            logger.info("%s: already there", path)
            return path
        logger.warning("%s: %s; fetching it again", path, problem)
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(folder / f"{archive.name}.part")
    _receive(archive, part, retries, backoff_seconds, timeout_seconds)
    problem = _problem(archive, part.path)
    if problem:
        part.discard()
        raise DataError(f"{archive.url}: {problem}. What came was removed; try again, or another mirror",
                        "bad_checksum")
    os.replace(part.path, path)
    part.discard()
    return path


def _problem(archive: Archive, path: Path) -> str:
    """Say what is wrong with a complete file; "" if nothing is."""
    num_bytes = path.stat().st_size
    if archive.num_bytes is not None and num_bytes != archive.num_bytes:
        return f"{num_bytes:,} bytes; expected {archive.num_bytes:,}"
    if archive.sha256 is None:
        logger.warning("%s: no published checksum, not verified", path)
        return ""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    expected = archive.sha256.lower()
    return "" if found == expected else f"sha256 {found}; expected {expected}"


class _Part:
    """The bytes received so far and, in a file beside them, the version of the remote file they belong to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version_path = path.with_name(f"{path.name}.version")

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        return self._version_path.read_text(encoding="latin-1") if self._version_path.exists() else ""

    def begin(self, version: str) -> None:
        """Start from zero, with this version of the remote file."""
        self.path.write_bytes(b"")  # first: old bytes must never stand beside the new version
        self._version_path.write_text(version, encoding="latin-1")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version_path.unlink(missing_ok=True)


class _TryAgain(Exception):
    """An answer that a second request may improve on."""


def _receive(archive: Archive, part: _Part, retries: int, backoff_seconds: float,
             timeout_seconds: float) -> None:
    """Fill the part, trying again with growing pauses."""
    for attempt in range(retries + 1):
        try:
            return _request(archive, part, timeout_seconds)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError,
                _TryAgain) as error:
            reason = _root(error)
        except requests.RequestException as error:
            problem = f"{archive.url}: {error}; expected an http or https address"
            raise DataError(problem, "download_failed") from error
        if attempt < retries:
            pause = backoff_seconds * 2**attempt
            logger.warning("%s: %s; %s bytes so far; again in %g s", archive.name, reason,
                           f"{part.num_bytes:,}", pause)
            time.sleep(pause)
    raise DataError(f"{archive.url}: {reason}; gave up after {retries + 1} attempts. {part.num_bytes:,} "
                    f"bytes are in {part.path}; calling again continues from there", "download_failed")


def _root(error: BaseException) -> str:
    """Name the innermost cause: the outer ones are pages long."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) if isinstance(error, _TryAgain) else f"{type(error).__name__}: {error}"


def _request(archive: Archive, part: _Part, timeout_seconds: float) -> None:
    """Ask once for what is missing and append it to the part."""
    headers = {"Accept-Encoding": "identity"}
    if part.num_bytes and part.version:
        headers |= {"Range": f"bytes={part.num_bytes}-", "If-Range": part.version}
    with requests.get(archive.url, headers=headers, stream=True, timeout=timeout_seconds) as response:
        total = _accept(archive, part, response)
        if total == part.num_bytes:
            return
        bar = tqdm(desc=archive.name, total=total, initial=part.num_bytes, unit="B", unit_scale=True,
                   unit_divisor=1024, disable=None)
        with open(part.path, "ab") as file, bar:
            # Not iter_content: it would decompress what a server labels "Content-Encoding: gzip".
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.num_bytes < total:
        raise _TryAgain(f"the connection ended at {part.num_bytes:,} of {total:,} bytes")


def _accept(archive: Archive, part: _Part, response: requests.Response) -> Optional[int]:
    """Make the part ready for the body of an answer.

    Returns:
        the size of the whole file in bytes; None if nobody knows it.
    """
    status = response.status_code
    if status in _TRY_LATER:
        raise _TryAgain(f"HTTP {status} {response.reason}")
    if status not in (200, 206, 416):
        raise DataError(f"{archive.url}: HTTP {status} {response.reason}; expected the archive. "
                        "Is the address right?", "download_failed")
    start, total = _extent(response)
    version = _version(response)
    if status == 416 and total == part.num_bytes:  # an earlier call was interrupted after the last byte
        return total
    # Some servers honour Range but not If-Range: look at the version ourselves.
    if status == 416 or (status == 206 and (start != part.num_bytes or version not in ("", part.version))):
        part.discard()
        raise _TryAgain("the remote file has changed, starting over")
    if total is not None and archive.num_bytes not in (None, total):  # before any byte is thrown away
        raise DataError(f"{archive.url}: offers {total:,} bytes; expected {archive.num_bytes:,}. "
                        "Another version, or the login page of a network?", "download_failed")
    if status == 200:
        part.begin(version)
    return archive.num_bytes if total is None else total


def _extent(response: requests.Response) -> tuple[Optional[int], Optional[int]]:
    """Read where the body starts in the file, and the size of the whole file; None where it is not said."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return None, None
    return int(found[1]) if found[1] else None, None if found[2] == "*" else int(found[2])


def _version(response: requests.Response) -> str:
    """Return what If-Range takes (RFC 9110, 13.1.5): a strong ETag, else the date; "" if there is neither."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
