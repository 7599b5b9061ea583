from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import logging
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import wave
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, Optional

import pytest

from kws.cli import guard
from kws.data import download as module
from kws.data.download import ARCHIVES, Archive, download
from kws.data.unpack import check_destination, extract
from kws.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(1).randbytes(300_000)
BREAK = 100_000  # bytes of the body before the server hangs up


# A real server with faults to order

@dataclass
class Server:
    """What a local web server does; a test changes it while it runs."""

    url: str = ""
    content: bytes = CONTENT
    etag: Optional[str] = '"one"'
    modified: Optional[str] = None
    ranges: bool = True
    if_range: bool = True
    breaks: list[int] = field(default_factory=list)  # one per request: bytes sent before the connection ends
    statuses: list[int] = field(default_factory=list)  # one per request: answered instead of the file
    reset: bool = False  # break off with RST, not FIN
    claimed: Optional[int] = None  # a false Content-Length
    extra: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0  # between pieces of 10 kB
    head_delay_seconds: float = 0.0
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(handler.headers))
        if self.head_delay_seconds:
            time.sleep(self.head_delay_seconds)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start = self._start(handler)
        if start is not None and start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self._send_head(handler, start)
        self._send_body(handler, self.content[start or 0:])

    def _start(self, handler: BaseHTTPRequestHandler) -> Optional[int]:
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        version = handler.headers.get("If-Range")
        if not found or not self.ranges or (self.if_range and version not in (None, self.etag, self.modified)):
            return None
        return int(found[1])

    def _send_head(self, handler: BaseHTTPRequestHandler, start: Optional[int]) -> None:
        handler.send_response(200 if start is None else 206)
        size = len(self.content)
        if start is not None:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.claimed != -1:
            handler.send_header("Content-Length", str(self.claimed or size - (start or 0)))
        for name, value in {"ETag": self.etag, "Last-Modified": self.modified, **self.extra}.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()

    def _send_body(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        end = self.breaks.pop(0) if self.breaks else len(body)
        for position in range(0, min(end, len(body)), 10_000):
            handler.wfile.write(body[position:min(end, position + 10_000)])
            time.sleep(self.delay_seconds)
        if self.reset:
            time.sleep(0.05)  # let what was sent arrive: RST overtakes it
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                state.answer(self)
            except OSError:
                pass  # the client hung up

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/words.tar.gz"
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of "kws", whether or not an earlier test started logging (which ends its propagation)."""
    logger = logging.getLogger("kws")
    propagate, level = logger.propagate, logger.level
    logger.propagate = True
    caplog.set_level(logging.INFO, logger="kws")
    yield caplog
    logger.propagate = propagate
    logger.setLevel(level)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def words(server: Server, content: bytes = CONTENT) -> Archive:
    return Archive("words.tar.gz", server.url, sha256(content), len(content))


def fetch(archive: Archive, folder: Path, retries: int = 3) -> Path:
    return download(archive, folder, retries=retries, backoff_seconds=0, timeout_seconds=5)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def fails(code: str, *texts: str) -> Iterator[None]:
    with pytest.raises(DataError) as caught:
        yield
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    for text in texts:
        assert text in str(caught.value)


# Downloading

def test_archives_are_complete() -> None:
    assert set(ARCHIVES) == {"v0.01", "v0.02", "v0.01-test", "v0.02-test"}
    for key, archive in ARCHIVES.items():
        assert archive.url == f"https://storage.googleapis.com/download.tensorflow.org/data/{archive.name}"
        assert archive.name.endswith(f"{key.removesuffix('-test')}.tar.gz")
        assert ("test_set" in archive.name) == key.endswith("-test")
    assert len({archive.sha256 for archive in ARCHIVES.values()}) == 4


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_a_wrong_digest_is_refused_before_the_download(wrong: str) -> None:
    with fails("bad_checksum", "64 hex digits"):
        Archive("a", "http://127.0.0.1/a", wrong, None)


def test_download_and_skip(server: Server, tmp_path: Path) -> None:
    path = fetch(words(server), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "words.tar.gz"
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == ["words.tar.gz"]
    assert fetch(words(server), path.parent) == path
    assert len(server.requests) == 1


def test_an_upper_case_digest_matches(server: Server, tmp_path: Path) -> None:
    fetch(replace(words(server), sha256=sha256(CONTENT).upper()), tmp_path)


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"", bytes(len(CONTENT))])
def test_a_damaged_archive_is_fetched_again(server: Server, tmp_path: Path, log: Any, damaged: bytes) -> None:
    (tmp_path / "words.tar.gz").write_bytes(damaged)
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert "fetching it again" in log.text


def test_without_a_checksum_a_warning(server: Server, tmp_path: Path, log: Any) -> None:
    archive = replace(words(server), sha256=None, num_bytes=None)
    for _ in range(2):
        assert fetch(archive, tmp_path).read_bytes() == CONTENT
        assert "no published checksum, not verified" in log.text
        log.clear()
    assert len(server.requests) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_broken_connections_continue(server: Server, tmp_path: Path, log: Any, reset: bool) -> None:
    server.breaks, server.reset = [BREAK, 50_000, 70_001], reset
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 4
    assert all(request["If-Range"] == '"one"' for request in server.requests[1:])
    starts = [int(request["Range"].removeprefix("bytes=").rstrip("-")) for request in server.requests[1:]]
    assert starts == sorted(starts)
    if not reset:  # RST may take the last piece with it
        assert starts == [100_000, 150_000, 220_001]
    assert len([line for line in log.messages if "bytes so far" in line]) == 3


def test_giving_up_says_how_to_go_on(server: Server, tmp_path: Path) -> None:
    server.breaks = [BREAK, 1, 0]
    with fails("download_failed", server.url, "3 attempts", "100,001 bytes", "calling again continues"):
        fetch(words(server), tmp_path, retries=2)
    assert files(tmp_path) == ["words.tar.gz.part", "words.tar.gz.part.version"]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=100001-"
    assert files(tmp_path) == ["words.tar.gz"]


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_what_cannot_be_continued_starts_over(server: Server, tmp_path: Path, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    server.breaks = [BREAK, BREAK + 1]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_the_date_stands_in_for_a_strong_etag(server: Server, tmp_path: Path) -> None:
    server.etag, server.modified, server.breaks = 'W/"weak"', "Wed, 11 Apr 2018 19:41:55 GMT", [BREAK]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["If-Range"] == server.modified
    assert server.requests[1]["Range"] == f"bytes={BREAK}-"


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("num_bytes", [len(CONTENT), 50_000])  # 50,000: fewer than the part has already
def test_a_changed_file_starts_over(server: Server, tmp_path: Path, if_range: bool, num_bytes: int) -> None:
    server.breaks, server.if_range = [BREAK], if_range
    with fails("download_failed"):
        fetch(replace(words(server), sha256=None, num_bytes=None), tmp_path, retries=0)
    server.content, server.etag = random.Random(2).randbytes(num_bytes), '"two"'
    path = fetch(replace(words(server, server.content), sha256=None, num_bytes=None), tmp_path)
    assert path.read_bytes() == server.content


def test_a_file_that_changes_at_every_request_ends(server: Server, tmp_path: Path) -> None:
    server.if_range = False
    server.breaks = [BREAK]
    with fails("download_failed"):
        fetch(words(server), tmp_path, retries=0)
    server.etag, server.breaks = '"two"', [BREAK]
    with fails("download_failed", "has changed"):
        fetch(words(server), tmp_path, retries=0)


def test_another_range_than_asked_for_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "words.tar.gz.part").write_bytes(CONTENT[:BREAK])
    (tmp_path / "words.tar.gz.part.version").write_text('"one"')
    server.extra = {"Content-Range": "bytes 0-9/10"}  # a second header: requests joins them with a comma
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


def test_a_complete_part_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "words.tar.gz.part").write_bytes(CONTENT)
    (tmp_path / "words.tar.gz.part.version").write_text('"one"')
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == f"bytes={len(CONTENT)}-"
    assert len(server.requests) == 1


@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_part_of_unknown_version_is_not_trusted(server: Server, tmp_path: Path, etag: Optional[str]) -> None:
    server.etag, server.if_range = etag, False
    (tmp_path / "words.tar.gz.part").write_bytes(b"old" * 1000)
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_damaged_part_is_removed_and_the_next_call_is_clean(server: Server, tmp_path: Path) -> None:
    (tmp_path / "words.tar.gz.part").write_bytes(bytes(BREAK))
    (tmp_path / "words.tar.gz.part.version").write_text('"one"')
    with fails("bad_checksum", "removed"):
        fetch(words(server), tmp_path)
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT


def test_wrong_content(server: Server, tmp_path: Path) -> None:
    server.content = bytes(len(CONTENT))
    with fails("bad_checksum", server.url, f"sha256 {sha256(server.content)}", f"expected {sha256(CONTENT)}"):
        fetch(words(server), tmp_path)
    assert files(tmp_path) == []


def test_another_size_is_refused_before_the_part_is_lost(server: Server, tmp_path: Path) -> None:
    server.breaks = [BREAK]
    with fails("download_failed"):
        fetch(words(server), tmp_path, retries=0)
    server.content, server.etag = b"<html>Please log in</html>", None
    with fails("download_failed", "offers 26 bytes; expected 300,000"):
        fetch(words(server), tmp_path)
    server.content, server.etag = CONTENT, '"one"'
    fetch(words(server), tmp_path)
    assert server.requests[-1]["Range"] == f"bytes={BREAK}-"


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
def test_a_final_status(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    with fails("download_failed", server.url, f"HTTP {status}"):
        fetch(words(server), tmp_path)
    assert len(server.requests) == 1
    assert files(tmp_path) == []


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path, log: Any) -> None:
    server.statuses = [503, 429, 500]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert "HTTP 503" in log.text
    server.statuses = [503] * 4
    with fails("download_failed", "HTTP 503", "4 attempts"):
        fetch(replace(words(server), name="other"), tmp_path)


def test_a_body_shorter_than_its_content_length(server: Server, tmp_path: Path) -> None:
    server.content, server.claimed = CONTENT[:BREAK], len(CONTENT)
    with fails("download_failed", "100,000 bytes"):
        fetch(words(server), tmp_path, retries=0)


def test_a_body_without_content_length_that_breaks_off(server: Server, tmp_path: Path) -> None:
    server.claimed, server.breaks = -1, [BREAK, BREAK]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT  # its size is known beforehand
    assert server.requests[-1]["Range"] == f"bytes={2 * BREAK}-"


def test_a_body_without_content_length_that_is_too_long(server: Server, tmp_path: Path) -> None:
    server.claimed, server.content = -1, CONTENT + b"more"
    with fails("bad_checksum", "300,004 bytes; expected 300,000"):
        fetch(words(server), tmp_path)


def test_bytes_are_kept_as_they_are_published(server: Server, tmp_path: Path) -> None:
    server.content = gzip.compress(CONTENT)
    server.extra = {"Content-Encoding": "gzip"}  # Apache says so of *.gz by its AddEncoding
    assert fetch(words(server, server.content), tmp_path).read_bytes() == server.content
    assert server.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("delay", ["delay_seconds", "head_delay_seconds"])
def test_a_silent_server_is_not_waited_for_forever(server: Server, tmp_path: Path, delay: str) -> None:
    setattr(server, delay, 0.5)
    with fails("download_failed", "2 attempts"):
        download(words(server), tmp_path, retries=1, backoff_seconds=0, timeout_seconds=0.1)


def test_no_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/words.tar.gz"
        with fails("download_failed", url, "refused", "4 attempts"):
            fetch(Archive("words.tar.gz", url, None, None), tmp_path)


@pytest.mark.parametrize("url", ["words.tar.gz", "ftp://127.0.0.1/a", "file:///etc/passwd", "http://", ""])
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with fails("download_failed", "expected an http or https address"):
        fetch(Archive("words.tar.gz", url, None, None), tmp_path)


def test_pauses_double(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    server.statuses = [503] * 4
    monkeypatch.setattr("time.sleep", pauses.append)
    with fails("download_failed"):
        download(words(server), tmp_path, retries=3, backoff_seconds=0.5)
    assert pauses == [0.5, 1.0, 2.0]


class Bar:
    """A stand-in for tqdm that remembers, and interrupts after so many bytes."""

    made: list[Bar] = []
    interrupt_at: Optional[int] = None

    def __init__(self, desc: str, total: Optional[int], initial: int, disable: Optional[bool], **_: Any) -> None:
        self.desc, self.total, self.n, self.disable = desc, total, initial, disable
        self.made.append(self)

    def update(self, num_bytes: int) -> None:
        self.n += num_bytes
        if self.interrupt_at is not None and self.n >= self.interrupt_at:
            raise KeyboardInterrupt

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> type[Bar]:
    monkeypatch.setattr(Bar, "made", [])
    monkeypatch.setattr(Bar, "interrupt_at", None)
    monkeypatch.setattr(module, "tqdm", Bar)
    return Bar


def test_progress_counts_what_an_earlier_attempt_brought(server: Server, tmp_path: Path, bars: type[Bar]) -> None:
    server.breaks = [BREAK]
    fetch(words(server), tmp_path)
    assert [(bar.desc, bar.total, bar.n) for bar in bars.made] == [
        ("words.tar.gz", 300_000, 100_000), ("words.tar.gz", 300_000, 300_000)]
    assert all(bar.disable is None for bar in bars.made)  # None: silent where stderr is no terminal


def test_progress_of_unknown_size(server: Server, tmp_path: Path, bars: type[Bar]) -> None:
    server.claimed = -1
    fetch(replace(words(server), num_bytes=None), tmp_path)
    assert (bars.made[0].total, bars.made[0].n) == (None, 300_000)


def test_an_interrupted_download_continues(server: Server, tmp_path: Path, bars: type[Bar]) -> None:
    bars.interrupt_at = 150_000
    with pytest.raises(KeyboardInterrupt):
        fetch(words(server), tmp_path)
    kept = (tmp_path / "words.tar.gz.part").read_bytes()
    assert len(kept) >= 150_000 and CONTENT.startswith(kept)
    bars.interrupt_at = None
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == f"bytes={len(kept)}-"
    assert bars.made[-1].n == 300_000


def test_an_interrupted_check_continues(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(words(server), tmp_path)
    assert not (tmp_path / "words.tar.gz").exists()  # in place only once it is verified
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT


# Unpacking

def member(name: str, content: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content else None)
    return stream.getvalue()


GOOD = (member("./", type=tarfile.DIRTYPE), member("./yes", type=tarfile.DIRTYPE),
        member("./yes/a_nohash_0.wav", b"a" * 5000, mode=0o777), member("./no/b_nohash_0.wav", b"b"),
        member("./LICENSE", b"CC BY 4.0", mode=0o000))


@pytest.fixture
def refuses(tmp_path: Path) -> Callable[..., None]:
    """Check that an archive is refused and that nothing of it is left, inside the destination or around it."""
    def check(content: bytes, *texts: str, **limits: int) -> None:
        path = tmp_path / "in" / "bad.tar.gz"
        path.parent.mkdir()
        path.write_bytes(content)
        (tmp_path / "out").mkdir()
        with fails("bad_archive", str(path), *texts):
            extract(path, tmp_path / "out" / "data", **limits)
        assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == [
            Path("in"), Path("in/bad.tar.gz"), Path("out")]

    return check


def test_extract(tmp_path: Path) -> None:
    (tmp_path / "good.tar.gz").write_bytes(gzip.compress(tar_bytes(*GOOD)))
    assert extract(tmp_path / "good.tar.gz", tmp_path / "new" / "data") == 3
    data = tmp_path / "new" / "data"
    assert {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()} == {
        "yes/a_nohash_0.wav": b"a" * 5000, "no/b_nohash_0.wav": b"b", "LICENSE": b"CC BY 4.0"}
    assert os.stat(data / "yes/a_nohash_0.wav").st_mode & 0o022 == 0  # never writable for others
    assert os.stat(data / "LICENSE").st_mode & 0o600 == 0o600
    assert files(data.parent) == ["data"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extract_long_and_foreign_names(tmp_path: Path, format: int) -> None:
    name = f"{'w' * 90}/{'x' * 90}ö.wav"
    content = gzip.compress(tar_bytes(member(name, b"a"), format=format))
    (tmp_path / "good.tar.gz").write_bytes(content)
    extract(tmp_path / "good.tar.gz", tmp_path / "data")
    assert (tmp_path / "data" / name).read_bytes() == b"a"


def test_the_destination_may_be_empty_or_a_link_to_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "good.tar.gz").write_bytes(gzip.compress(tar_bytes(*GOOD)))
    for name in ("empty", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("empty", "link"):
        extract(tmp_path / "good.tar.gz", tmp_path / name)
        assert files(tmp_path / name) == ["LICENSE", "no", "yes"]
    assert (tmp_path / "link").is_symlink()
    assert files(tmp_path) == ["elsewhere", "empty", "good.tar.gz", "link"]


def test_the_destination_may_not_be_in_use(tmp_path: Path) -> None:
    (tmp_path / "good.tar.gz").write_bytes(gzip.compress(tar_bytes(*GOOD)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    for destination in (tmp_path / "data", tmp_path / "data" / "mine.txt"):
        with fails("not_empty", str(destination), "name another one"):
            extract(tmp_path / "good.tar.gz", destination)
        with fails("not_empty"):
            check_destination(destination)
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"


def test_extract_of_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "none.tar.gz", tmp_path / "data")
    assert files(tmp_path) == []


@pytest.mark.parametrize(("name", "text"), [
    ("../evil", "leads out"), ("yes/../../evil", "leads out"), ("./yes/../..", "leads out"),
    ("..\\evil", "leads out"), ("yes/../fine", "leads out"), ("/etc/evil", "absolute"), ("//etc/evil", "absolute"),
    ("\\evil", "absolute"), ("C:\\evil", "absolute"), ("C:evil", "absolute"), ("yes/" + "x" * 256, "too long"),
    ("x" * 5000, "too long"), ("", "damaged"), (".", "damaged")])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_evil_names(refuses: Callable[..., None], name: str, text: str, format: int) -> None:
    refuses(gzip.compress(tar_bytes(*GOOD, member(name, b"evil"), format=format)), text)


@pytest.mark.parametrize(("kind", "text"), [
    (tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.CHRTYPE, "neither"),
    (tarfile.BLKTYPE, "neither"), (tarfile.FIFOTYPE, "neither")])
@pytest.mark.parametrize("target", ["../../evil", "/etc/passwd", "yes/a_nohash_0.wav"])
def test_links_and_devices(refuses: Callable[..., None], kind: bytes, text: str, target: str) -> None:
    special = member("yes/special", type=kind, linkname=target, devmajor=1, devminor=3)
    refuses(gzip.compress(tar_bytes(*GOOD, special)), "'yes/special'", text)


def test_a_file_behind_a_link(refuses: Callable[..., None], tmp_path: Path) -> None:
    link = member("yes", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    refuses(gzip.compress(tar_bytes(link, member("yes/evil", b"evil"))), "a link")


def test_too_many_members(refuses: Callable[..., None]) -> None:
    refuses(gzip.compress(tar_bytes(*GOOD)), "limit", "4 members", max_members=4)


def test_too_many_bytes(refuses: Callable[..., None]) -> None:
    refuses(gzip.compress(tar_bytes(*GOOD)), "limit", "5,009 bytes", max_bytes=5009)


def test_the_limits_are_inclusive(tmp_path: Path) -> None:
    (tmp_path / "good.tar.gz").write_bytes(gzip.compress(tar_bytes(*GOOD)))
    extract(tmp_path / "good.tar.gz", tmp_path / "data", max_bytes=5010, max_members=5)


def test_a_bomb_is_refused_by_its_header(refuses: Callable[..., None]) -> None:
    info, _ = member("bomb.wav", size=2**40)
    refuses(gzip.compress(info.tobuf() + bytes(2**16)), "limit")


def test_a_sparse_bomb(refuses: Callable[..., None]) -> None:
    sparse = member("bomb.wav", pax_headers={"GNU.sparse.major": "0", "GNU.sparse.minor": "1",
                                             "GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)})
    refuses(gzip.compress(tar_bytes(sparse, format=tarfile.PAX_FORMAT)), "limit")


@pytest.mark.parametrize("size", [2**40, -512])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_an_extended_header(refuses: Callable[..., None], kind: bytes, size: int) -> None:
    info, _ = member("header", type=kind, size=size)
    refuses(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))


def test_a_negative_size(refuses: Callable[..., None]) -> None:
    info, _ = member("a.wav", size=-512)
    refuses(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**16)))


def test_headers_upon_headers(refuses: Callable[..., None]) -> None:
    header = member("header", b"name\0", type=tarfile.GNUTYPE_LONGNAME)[0].tobuf() + b"name".ljust(512, b"\0")
    refuses(gzip.compress(header * 2000 + tar_bytes(*GOOD)), "RecursionError")


def test_a_negative_size_cannot_make_room_for_a_bomb(refuses: Callable[..., None]) -> None:
    info, _ = member("yes", type=tarfile.DIRTYPE, size=-2**50)
    refuses(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + tar_bytes(*GOOD)), "negative", max_bytes=100)


def test_a_name_with_nul(refuses: Callable[..., None]) -> None:
    split = member("a.wav", b"a", pax_headers={"path": "yes/a\0b.wav"})
    refuses(gzip.compress(tar_bytes(split, format=tarfile.PAX_FORMAT)), "ValueError")


@pytest.mark.parametrize("members", [
    (member("yes", b"a"), member("yes/b.wav", b"b")), (member("yes/b.wav", b"b"), member("yes", b"a"))])
def test_one_path_as_a_file_and_as_a_folder(refuses: Callable[..., None], members: Any) -> None:
    refuses(gzip.compress(tar_bytes(*members)), "damaged")


def test_a_date_beyond_time(refuses: Callable[..., None]) -> None:
    late = member("a.wav", b"a", pax_headers={"mtime": "1e300"})
    refuses(gzip.compress(tar_bytes(late, format=tarfile.PAX_FORMAT)), "OverflowError")


@pytest.mark.parametrize("content", [
    b"", b"hello", b"<html>not found</html>", tar_bytes(*GOOD), gzip.compress(b""), gzip.compress(b"hello" * 1000),
    gzip.compress(bytes(10240)), gzip.compress(tar_bytes(member("yes", type=tarfile.DIRTYPE)))],
    ids=["empty", "text", "html", "plain tar", "gzip of nothing", "gzip of text", "no members", "no files"])
def test_what_is_no_archive(refuses: Callable[..., None], content: bytes) -> None:
    refuses(content, "Download it again")


@pytest.mark.parametrize("kept", [1, 5, 11, 100, 0.25, 0.5, 0.75, -1, -8])
def test_a_truncated_archive(refuses: Callable[..., None], kept: float) -> None:
    noisy = member("yes/noise.wav", random.Random(3).randbytes(20_000))
    content = gzip.compress(tar_bytes(*GOOD, noisy))
    refuses(content[:int(kept * len(content)) if 0 < kept < 1 else int(kept)], "Download it again")


@pytest.mark.parametrize("num_bytes", [512 * 3 + 100, 512 * 3, 512 * 3 + 512 * 4, 512 * 15])
def test_a_tar_that_ends_early_in_a_sound_gzip(refuses: Callable[..., None], num_bytes: int) -> None:
    refuses(gzip.compress(tar_bytes(*GOOD)[:num_bytes]), "Download it again")


def test_a_damaged_header_in_the_middle(refuses: Callable[..., None]) -> None:
    content = bytearray(tar_bytes(*GOOD))
    content[512 * 13 + 10] ^= 0xFF  # in the header of ./no/b_nohash_0.wav: two folders, 1 + 10 blocks before it
    refuses(gzip.compress(bytes(content)), "Download it again")


def test_a_wrong_checksum_of_gzip(refuses: Callable[..., None]) -> None:
    content = bytearray(gzip.compress(tar_bytes(*GOOD)))
    content[-6] ^= 0xFF
    refuses(bytes(content), "CRC")


def test_a_damaged_compressed_stream(refuses: Callable[..., None]) -> None:
    stream = zlib.compressobj(wbits=31)  # gzip
    half = tar_bytes(member("long.wav", random.Random(7).randbytes(200_000)))[:100_000]
    sound = stream.compress(half) + stream.flush(zlib.Z_FULL_FLUSH)
    refuses(sound + b"\x07" * 1000, "invalid block type")  # inside of a member tarfile lets zlib's error through


def test_more_after_the_end(refuses: Callable[..., None]) -> None:
    refuses(gzip.compress(tar_bytes(*GOOD) + tar_bytes(member("more.wav", b"more"))), "does not end")


def test_endless_padding(refuses: Callable[..., None]) -> None:
    refuses(gzip.compress(tar_bytes(*GOOD) + bytes(2**21)), "does not end")


def test_an_interrupted_extraction_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.tar.gz").write_bytes(gzip.compress(tar_bytes(*GOOD)))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kws.data.unpack._check_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "good.tar.gz", tmp_path / "data")
    assert files(tmp_path) == ["good.tar.gz"]


def test_damage_anywhere_is_never_a_crash_nor_half_a_folder(tmp_path: Path) -> None:
    generator = random.Random(4)
    sound = tar_bytes(*GOOD, format=tarfile.PAX_FORMAT)
    path = tmp_path / "some.tar.gz"
    for index in range(200):
        content = bytearray(sound)
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(gzip.compress(bytes(content), compresslevel=1))
        try:
            extract(path, tmp_path / f"out{index}")
        except DataError as error:
            assert error.code == "bad_archive"
            assert not (tmp_path / f"out{index}").exists()
    assert [name for name in files(tmp_path) if name.startswith(".")] == []


# The command

def corpus_bytes() -> bytes:
    """A small corpus in the layout of the real archive: 2 words x 2 speakers, background noise, the lists."""
    clip = io.BytesIO()
    with wave.open(clip, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(random.Random(5).randbytes(32000))
    clips = [member(f"./{word}/{speaker}_nohash_0.wav", clip.getvalue())
             for word in ("yes", "no") for speaker in ("0a7c2a8d", "1b88bf70")]
    return gzip.compress(tar_bytes(
        member("./", type=tarfile.DIRTYPE), *clips, member("./_background_noise_/hum.wav", clip.getvalue()),
        member("./validation_list.txt", b"yes/0a7c2a8d_nohash_0.wav\n"), member("./testing_list.txt", b""),
        member("./LICENSE", b"CC BY 4.0")))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("download_script", ROOT / "scripts" / "download.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; the log goes back to where it was."""
    logger = logging.getLogger("kws")
    before = logger.handlers[:], logger.level, logger.propagate
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def test_command_end_to_end(script: ModuleType, server: Server, here: Path, capsys: Any) -> None:
    server.content, server.breaks = corpus_bytes(), [BREAK]  # the one retry takes a second
    command = ["v0.02", "--url", server.url, "--sha256", sha256(server.content)]
    assert guard(script.main, command) == 0
    output = capsys.readouterr()
    assert output.out == "data: 8 files\n"
    assert "100,000 bytes so far" in output.err
    assert files(here / "data") == ["LICENSE", "_background_noise_", "no", "testing_list.txt", "validation_list.txt",
                                    "yes"]
    with wave.open(str(here / "data" / "yes" / "0a7c2a8d_nohash_0.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 16000)
    assert files(here / "downloads") == ["speech_commands_v0.02.tar.gz"]

    assert guard(script.main, command) == 2  # data/ is in use: said before anything is fetched
    assert "data: in use" in capsys.readouterr().err
    assert guard(script.main, [*command, "--output", "again"]) == 0
    assert len(server.requests) == 2


def test_command_with_a_mirror_of_other_content(script: ModuleType, server: Server, here: Path, capsys: Any) -> None:
    server.claimed = -1
    assert guard(script.main, ["v0.02-test", "--url", server.url, "--output", "test"]) == 2
    assert "error: http://" in (error := capsys.readouterr().err) and "expected 112,563,277" in error
    assert guard(script.main, ["v0.02", "--url", server.url, "--sha256", "abc"]) == 2
    assert "64 hex digits" in capsys.readouterr().err
    assert (files(here), files(here / "downloads")) == (["downloads"], [])


def test_command_help_teaches(script: ModuleType, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for part in (*ARCHIVES, "2.4 GB", "CC BY 4.0", "continues", "python scripts/download.py v0.02"):
        assert part in text


def test_ctrl_c_of_the_real_command_keeps_the_part(server: Server, tmp_path: Path) -> None:
    server.content, server.delay_seconds = random.Random(6).randbytes(2_000_000), 0.02
    command = [sys.executable, str(ROOT / "scripts" / "download.py"), "v0.02", "--url", server.url,
               "--sha256", sha256(server.content)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "downloads" / "speech_commands_v0.02.tar.gz.part"
    deadline = time.monotonic() + 10
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "error: interrupted\n")
    assert server.content.startswith(part.read_bytes())
    assert files(tmp_path) == ["downloads"]
