import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from load_client import Load, read_recordings, run

from kws.errors import DataError, KwsError


class Picky(BaseHTTPRequestHandler):
    """Refuses what is longer than three bytes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.rfile.read(length)
        answer = b"fine" if length <= 3 else b'{"error": "3 bytes are enough"}'
        self.send_response(200 if length <= 3 else 413)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def warm_soon(monkeypatch):
    monkeypatch.setattr("load_client._WARM_UP_SECONDS", 0.2)


@pytest.fixture(scope="module")
def url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Picky) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_every_request_is_measured_and_failures_are_told_by_kind(url):
    load = run(url, [b"abc", b"abcd"], rate=200, count=100)
    assert load.latencies.shape == load.outcomes.shape == (100,) and (load.latencies > 0).all()
    assert load.summary()["requests"] == 100 and load.summary()["failures"] == {"413": 50}


def test_a_run_ends_early_when_it_is_enough(url):
    enough = threading.Event()
    enough.set()
    load = run(url, [b"abc"], rate=20, count=100_000, enough=enough)
    assert len(load.due) == len(load.latencies) == len(load.outcomes) == 1 and load.summary()["failures"] == {}


def test_a_refusal_of_the_first_recording_says_what_the_service_says(url):
    with pytest.raises(KwsError, match=r"answers 413 to the first recording.*3 bytes are enough") as error:
        run(url, [b"abcd"], rate=10, count=1)
    assert error.value.code == "no_service"


def test_nobody_there_is_told_at_once():
    with pytest.raises(KwsError, match="127.0.0.1:9") as error:
        run("http://127.0.0.1:9/", [b"abc"], rate=10, count=1)
    assert error.value.code == "no_service"


def test_percentiles_are_of_all_requests_failed_ones_too():
    outcomes = np.array(["200", "503", "200", "200"])
    summary = Load(10.0, np.arange(4) / 10, np.array([1.0, 2.0, 3.0, 4.0]), outcomes).summary()
    assert summary["p50_ms"] == 2.5 and summary["max_ms"] == 4.0 and summary["failures"] == {"503": 1}
    assert summary["answers_per_second"] == pytest.approx(4 / 0.304, abs=0.1)


def test_an_empty_manifest_is_no_load(tmp_path):
    (tmp_path / "empty.csv").write_text("path\n")
    with pytest.raises(DataError, match="empty.csv: no rows"):
        read_recordings(tmp_path / "empty.csv")


def test_of_many_recordings_a_thousand_are_sent_from_first_to_last(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(bytes([number]))
    assert read_recordings(tmp_path) == [b"\0", b"\1", b"\2"]
    (tmp_path / "many.csv").write_text("path\n" + "0.wav\n1.wav\n2.wav\n" * 1000)
    assert read_recordings(tmp_path / "many.csv") == [b"\0"] * 1000  # every third
