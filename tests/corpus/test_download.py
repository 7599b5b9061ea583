"""Download from a real server with faults to order; unpack; the command."""
from __future__ import annotations

import gzip
import hashlib
import io
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
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kws.__main__ import main
from kws.corpus.download import ARCHIVES, Archive, check_destination, download, extract
from kws.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(1).randbytes(300_000)
BREAK = 100_000  # bytes of the body before the server hangs up


@dataclass
class Server:
    """What a local web server does; a test changes it while it runs."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)  # one per request: bytes sent before the connection ends
    statuses: list[int] = field(default_factory=list)  # one per request: answered instead of the file
    reset: bool = False  # break off with RST, not FIN
    headers: dict[str, str] = field(default_factory=dict)
    seconds_per_piece: float = 0.0  # of 10 kB
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(handler.headers))
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")) if self.ranges else None
        start = int(asked[1]) if asked else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        handler.send_response(206 if asked else 200)
        for name, value in {"Content-Length": str(len(self.content) - start), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else len(self.content)
        for position in range(start, end, 10_000):
            time.sleep(self.seconds_per_piece)
            handler.wfile.write(self.content[position:min(end, position + 10_000)])
        if self.reset:
            time.sleep(0.05)  # let what was sent arrive: RST overtakes it
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                state.answer(self)
            except OSError:
                pass  # the client hung up

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/words.tar.gz"
        yield state
        http.shutdown()
        thread.join()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def words(server, content=CONTENT):
    return Archive("words.tar.gz", server.url, sha256(content))


def fetch(archive, folder, tries=4, timeout_seconds=5):
    return download(archive, folder, tries=tries, pause_seconds=0, timeout_seconds=timeout_seconds)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def fails(code, *texts):
    with pytest.raises(DataError) as caught:
        yield
    assert caught.value.code == code and "\n" not in str(caught.value)
    for text in texts:
        assert text in str(caught.value)


# Downloading

def test_archives_are_complete():
    assert set(ARCHIVES) == {"v0.01", "v0.02", "v0.02-test"}
    for version, archive in ARCHIVES.items():
        assert archive.url == f"https://storage.googleapis.com/download.tensorflow.org/data/{archive.name}"
        assert archive.name.endswith(f"{version.removesuffix('-test')}.tar.gz")
        assert ("test_set" in archive.name) == version.endswith("-test")
    assert len({archive.sha256 for archive in ARCHIVES.values()}) == 3


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused_before_the_download(wrong):
    with fails("bad_checksum", "64 hex digits"):
        Archive("a", "http://127.0.0.1/a", wrong)


def test_download_and_skip(server, tmp_path):
    path = fetch(words(server), tmp_path / "new/folder")
    assert path == tmp_path / "new/folder/words.tar.gz" and path.read_bytes() == CONTENT
    assert files(path.parent) == ["words.tar.gz"]
    assert fetch(words(server), path.parent) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"", bytes(len(CONTENT))])
def test_a_damaged_archive_is_fetched_again(server, tmp_path, damaged):
    (tmp_path / "words.tar.gz").write_bytes(damaged)
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("reset", [False, True])
def test_broken_connections_continue(server, tmp_path, reset):
    server.breaks, server.reset = [BREAK, 50_000, 70_001], reset
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    starts = [int(request["Range"].removeprefix("bytes=").rstrip("-")) for request in server.requests[1:]]
    assert len(starts) == 3 and starts == sorted(starts)
    if not reset:  # RST may take the last piece with it
        assert starts == [100_000, 150_000, 220_001]


def test_giving_up_says_how_to_go_on(server, tmp_path):
    server.breaks = [BREAK, 1, 0]
    with fails("download_failed", server.url, "3 tries", "100,001 bytes", "the same command continues"):
        fetch(words(server), tmp_path, tries=3)
    assert files(tmp_path) == ["words.tar.gz.part"]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=100001-" and files(tmp_path) == ["words.tar.gz"]


def test_a_server_that_cannot_continue_starts_over(server, tmp_path):
    server.ranges, server.breaks = False, [BREAK, BREAK + 1]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_complete_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "words.tar.gz.part").write_bytes(CONTENT)
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("part", [b"", bytes(BREAK), bytes(len(CONTENT)), bytes(len(CONTENT) + 1)])
@pytest.mark.parametrize("offered", [CONTENT, bytes(len(CONTENT))])
def test_wrong_content_never_stays(server, tmp_path, part, offered):
    """Whether the part or the server is to blame: the next call begins from nothing."""
    (tmp_path / "words.tar.gz.part").write_bytes(part)
    server.content = offered
    if part or offered != CONTENT:
        with fails("bad_checksum", server.url, f"expected {sha256(CONTENT)}", "removed"):
            fetch(words(server), tmp_path)
        assert files(tmp_path) == []
    server.content = CONTENT
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
def test_a_final_status(server, tmp_path, status):
    server.statuses = [status]
    with fails("download_failed", server.url, f"HTTP {status}"):
        fetch(words(server), tmp_path)
    assert len(server.requests) == 1 and files(tmp_path) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429, 500]
    assert fetch(words(server), tmp_path).read_bytes() == CONTENT
    server.statuses = [503] * 4
    with fails("download_failed", "HTTP 503", "4 tries"):
        fetch(replace(words(server), name="other"), tmp_path)


def test_pauses_grow(server, tmp_path):
    server.statuses = [503] * 4
    began = time.monotonic()
    with fails("download_failed"):
        download(words(server), tmp_path, tries=4, pause_seconds=0.05)
    assert time.monotonic() - began >= 0.05 * (1 + 2 + 3)


def test_bytes_are_kept_as_they_are_published(server, tmp_path):
    server.content = gzip.compress(CONTENT)
    server.headers = {"Content-Encoding": "gzip"}  # Apache says so of *.gz by its AddEncoding
    assert fetch(words(server, server.content), tmp_path).read_bytes() == server.content
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_a_silent_server_is_not_waited_for_forever(server, tmp_path):
    server.seconds_per_piece = 0.5
    with fails("download_failed", "2 tries"):
        fetch(words(server), tmp_path, tries=2, timeout_seconds=0.1)


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/words.tar.gz"
        with fails("download_failed", url, "refused", "4 tries"):
            fetch(Archive("words.tar.gz", url, "0" * 64), tmp_path)


@pytest.mark.parametrize("url", ["words.tar.gz", "ftp://127.0.0.1/a", "file:///etc/passwd", "http://", ""])
def test_an_address_that_is_none(tmp_path, url):
    with fails("download_failed", "expected an http or https address"):
        fetch(Archive("words.tar.gz", url, "0" * 64), tmp_path)


def test_a_full_disk_is_named_and_keeps_the_part(server, small_disk):
    server.content = bytes(2_000_000)
    with pytest.raises(OSError, match=f"No space left on device: '{small_disk}/words.tar.gz.part'"):
        fetch(words(server, server.content), small_disk)
    assert 500_000 < (small_disk / "words.tar.gz.part").stat().st_size < 2_000_000


# Unpacking

def tar_gz(members):
    """Pack {name: content, or the target of a link}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if info.size else None)
    return stream.getvalue()


GOOD = {"./yes/a_nohash_0.wav": b"a" * 5000, "./no/b_nohash_0.wav": b"b", "./LICENSE": b"CC BY 4.0"}


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.tar.gz"
    path.write_bytes(tar_gz(GOOD))
    return path


@pytest.mark.parametrize("name", ["new/data", "empty", "link"])
def test_extract_into_a_new_or_an_empty_folder(good, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert extract(good, tmp_path / name) == 3
    assert {f"./{path.relative_to(tmp_path / name)}": path.read_bytes()
            for path in (tmp_path / name).rglob("*") if path.is_file()} == GOOD
    assert os.stat(tmp_path / name / "LICENSE").st_mode & 0o622 == 0o600
    assert (tmp_path / "link").is_symlink()


def test_the_destination_may_not_be_in_use(good, tmp_path):
    mine = tmp_path / "data/mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for destination in (mine.parent, mine):
        with fails("not_empty", str(destination), "name another one"):
            extract(good, destination)
        with fails("not_empty"):
            check_destination(destination)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("content", [
    b"", b"hello", tar_gz(GOOD)[:-100], tar_gz({**GOOD, "../evil": b"evil"}), tar_gz({**GOOD, "/evil": b"evil"}),
    tar_gz({**GOOD, "evil": "../../evil"})],
    ids=["empty", "text", "cut off", "a path out of it", "an absolute path", "a link out of it"])
def test_what_cannot_be_unpacked_leaves_nothing(tmp_path, content):
    (tmp_path / "bad.tar.gz").write_bytes(content)
    with fails("bad_archive", "bad.tar.gz"):
        extract(tmp_path / "bad.tar.gz", tmp_path / "data")
    assert files(tmp_path) == ["bad.tar.gz"]


def test_a_disk_that_is_too_small_is_named_and_left_as_it_was(tmp_path, small_disk):
    (tmp_path / "large.tar.gz").write_bytes(tar_gz({"yes/a.wav": bytes(2_000_000)}))
    with pytest.raises(OSError, match=f"No space left on device: '{small_disk}/data'"):
        extract(tmp_path / "large.tar.gz", small_disk / "data")
    assert files(small_disk) == []


# The command

def test_command_end_to_end(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    server.content = tar_gz(GOOD)
    command = ["v0.02", "--url", server.url, "--sha256", sha256(server.content).upper()]
    assert main(["download", *command]) == 0
    assert capsys.readouterr().out == "data: 3 files\n"
    assert files(tmp_path / "data") == ["LICENSE", "no", "yes"]
    assert files(tmp_path / "downloads") == ["speech_commands_v0.02.tar.gz"]
    assert main(["download", *command]) == 2  # data/ is in use: said before anything is fetched
    assert "data: in use" in capsys.readouterr().err
    assert main(["download", *command, "--output", "again"]) == 0
    assert len(server.requests) == 1
    assert main(["download", "v0.02-test", "--url", server.url, "--output", "test"]) == 2
    assert "expected cc2a00c1" in capsys.readouterr().err and not (tmp_path / "test").exists()


def test_ctrl_c_of_the_real_command_keeps_the_part(server, tmp_path):
    server.content, server.seconds_per_piece = random.Random(6).randbytes(2_000_000), 0.02
    command = [sys.executable, str(ROOT / "scripts/download.py"), "v0.02", "--url", server.url,
               "--sha256", sha256(server.content)]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                               stderr=subprocess.PIPE, text=True)
    part = tmp_path / "downloads/speech_commands_v0.02.tar.gz.part"
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "error: interrupted\n")
    assert server.content.startswith(part.read_bytes()) and files(tmp_path) == ["downloads"]
