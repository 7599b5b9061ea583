"""The service as it runs: a TorchServe process and a container, asked over HTTP.

KWS_FULL=1 runs the faults and the soak at full length; both are brief otherwise.
"""
import base64
import functools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import load_client as load
import numpy as np
import pytest
import requests
import yaml
from kws_service import ROOT, Container, Process, docker

from kws import KeywordSpotter

pytestmark = pytest.mark.services
FULL = "KWS_FULL" in os.environ
BASE_IMAGE = "pytorch/torchserve:0.12.0-cpu"


@pytest.fixture(scope="module")
def service(needs_torchserve, archive, wavs):
    with Process(archive, wavs["yes"]) as running:
        yield running


def curl(*arguments):
    """-> (status, document) of a request by curl."""
    done = subprocess.run(["curl", "--silent", "--write-out", "\n%{http_code}", *map(str, arguments)],
                          capture_output=True, text=True, check=True, timeout=60)
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(body) if body else None


def check_curl(predictions, wavs, spotter_folder, folder):
    spotter = KeywordSpotter(spotter_folder)
    for label, wav in wavs.items():
        path = folder / f"{label}.wav"
        path.write_bytes(wav)
        status, document = curl("-T", path, predictions)
        assert (status, document["label"]) == (200, label)
        assert document["confidences"] == pytest.approx(spotter(wav).confidences, abs=1e-5)
    assert curl("-F", f"data=@{path}", "-F", "top_k=1", predictions)[1]["confidences"].keys() == {"_unknown_"}
    body = json.dumps({"data": base64.b64encode(wav).decode(), "top_k": 1})
    assert curl("-H", "Content-Type: application/json", "-d", body, predictions)[1]["label"] == "_unknown_"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_gets_the_right_keyword(service, wavs, spotter_folder, tmp_path):
    check_curl(service.predictions, wavs, spotter_folder, tmp_path)
    invoke = f"{service.url}/models/kws/invoke?top_k=1"  # TorchServe drops the query of /predictions
    assert curl("-T", tmp_path / "yes.wav", invoke)[1]["confidences"].keys() == {"yes"}


@pytest.mark.parametrize("name, body, headers, status, code", [
    ("empty", b"", {}, 400, "empty_audio"),
    ("text", b"hello", {"Content-Type": "audio/wav"}, 415, "unsupported_audio"),
    ("malformed JSON", b'{"data": ', {"Content-Type": "application/json"}, 400, "bad_json"),
    ("deep JSON", b'{"a":' * 100_000, {"Content-Type": "application/json"}, 400, "bad_json"),
    ("JSON of another shape", b"[1]", {"Content-Type": "application/json"}, 400, "bad_json"),
    ("malformed base64", b'{"data": "!"}', {"Content-Type": "application/json"}, 400, "bad_base64"),
    ("text as text", b"hello", {"Content-Type": "text/plain"}, 400, "bad_base64"),
    ("cut off", 100, {}, 422, "truncated_audio"),
    ("50 MB", b"\0" * 50_000_000, {}, 413, None),
])
def test_bad_requests_are_refused_with_a_reason(service, wavs, name, body, headers, status, code):
    body = wavs["yes"][:-body] if isinstance(body, int) else body
    try:
        answer = requests.post(service.predictions, data=body, headers=headers, timeout=30)
    except requests.ConnectionError:
        assert code is None  # it hangs up on a body that it announced it would not take
        return
    assert answer.status_code == status
    if code:
        assert answer.json()["error"]["code"] == code and answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("content_type", ["audio/wav", "image/png", "text/plain", "application/octet-stream", ""])
def test_a_wrong_content_type_does_not_matter(service, wavs, content_type):
    answer = requests.post(service.predictions, data=wavs["no"], headers={"Content-Type": content_type}, timeout=30)
    assert answer.json()["label"] == "no"


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def disagreeing(wav):
    """Files whose chunks one parser reads and another refuses; all but the last two hold all that is needed."""
    form, samples = wav[12:36], wav[36:]
    floats = np.frombuffer(wav[44:], "<i2") / np.float32(32768)
    form_of_floats = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, 16000, 64000, 4, 32))
    parts = [(form, chunk(b"PEAK", b"\xff" * 3), samples), (form, chunk(b"\xff\xfe\1\2", b"abcd"), samples),
             (form_of_floats, chunk(b"fact", b""), chunk(b"data", floats.tobytes())),
             (form_of_floats, chunk(b"PEAK", b"\xff" * 16), chunk(b"data", floats.tobytes())),
             (form, chunk(b"cue ", b"\xff" * 8), samples), (chunk(b"fmt ", form[8:20]), samples), (samples,)]
    return [b"RIFF" + struct.pack("<I", 4 + sum(map(len, part))) + b"WAVE" + b"".join(part) for part in parts]


def test_files_on_which_parsers_disagree_fail_no_neighbour(service, wavs):
    odd, count = disagreeing(wavs["yes"]), 10_000 if FULL else 640
    bodies = [odd[number // 20 % len(odd)] if number % 20 == 0 else wavs["no"] for number in range(count)]
    with ThreadPoolExecutor(16) as pool, requests.Session() as session:
        answers = list(pool.map(lambda body: session.post(service.predictions, data=body, timeout=30), bodies))
    assert {answer.status_code for answer, body in zip(answers, bodies) if body is wavs["no"]} == {200}
    assert {answer.json()["label"] for answer, body in zip(answers, bodies) if body is wavs["no"]} == {"no"}
    for answer, body in zip(answers[::20], bodies[::20]):
        expected = (415, "unsupported_audio") if body in odd[-2:] else (200, "yes")
        document = answer.json()
        assert (answer.status_code, document.get("label") or document["error"]["code"]) == expected


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_a_form_with_two_files_of_one_name_is_refused(service, wavs, tmp_path):
    for label, wav in wavs.items():
        (tmp_path / f"{label}.wav").write_bytes(wav)
    yes, no = (f"data=@{tmp_path / label}.wav" for label in ("yes", "no"))
    status, document = curl("-F", yes, "-F", no, service.predictions)
    assert (status, document["error"]["code"]) == (400, "several_files")
    assert curl("-F", yes, "-F", "top_k=2", "-F", "threshold=0.1", service.predictions)[1]["label"] == "yes"


def test_models_can_be_asked_about_but_not_changed(service):
    assert requests.get(f"{service.management}/models", timeout=10).json()["models"][0]["modelName"] == "kws"
    assert requests.delete(f"{service.management}/models/kws", timeout=10).status_code == 405
    assert requests.post(f"{service.management}/models?url=http://127.0.0.1:9/a.mar", timeout=10).status_code == 405
    assert requests.post(f"{service.url}/predictions/other", data=b"x", timeout=10).status_code == 404


def test_mutated_recordings_from_many_connections_break_nothing(service, wavs):
    worker, count = service.worker(), 10_000 if FULL else 2000
    generator, wav = np.random.default_rng(0), wavs["yes"]
    bodies = []
    for number in range(count):
        body = bytearray(wav)
        for position in generator.integers(0, 60 if number % 2 else len(wav), size=generator.integers(1, 9)):
            body[position] = generator.integers(256)
        bodies.append(bytes(body[:generator.integers(1, len(wav) + 1)] if number % 3 == 0 else body))
    with ThreadPoolExecutor(16) as pool, requests.Session() as session:
        statuses = list(pool.map(lambda body: session.post(service.predictions, data=body, timeout=30).status_code,
                                 bodies))
    assert set(statuses) <= {200, 400, 413, 415, 422} and 200 in statuses and 415 in statuses
    assert service.worker() == worker


def test_slow_and_vanishing_clients_hold_nobody_up(service, wavs):
    address = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
    wav = wavs["yes"]
    head = f"POST /predictions/kws HTTP/1.1\r\nHost: x\r\nContent-Length: {len(wav)}\r\n\r\n".encode()
    for sent in (head[:20], head, head + wav[:1000], head + wav):
        for _ in range(10):
            with socket.create_connection(address) as client:
                client.sendall(sent)
    with socket.create_connection(address) as slow:
        slow.sendall(head + wav[:5000])
        began = time.monotonic()
        assert all(requests.post(service.predictions, data=wav, timeout=5).status_code == 200 for _ in range(20))
        assert time.monotonic() - began < 5
        slow.sendall(wav[5000:])
        slow.settimeout(10)
        assert slow.recv(100).startswith(b"HTTP/1.1 200")


def test_waiting_requests_are_answered_together(service, wavs):
    before = service.total("kws_batches_total"), service.total("kws_clips_total")
    with ThreadPoolExecutor(32) as pool:
        answers = pool.map(lambda wav: requests.post(service.predictions, data=wav, timeout=30).json()["label"],
                           200 * [wavs["yes"], wavs["no"]])
    assert list(answers) == 200 * ["yes", "no"]
    time.sleep(1)
    batches, clips = service.total("kws_batches_total") - before[0], service.total("kws_clips_total") - before[1]
    assert clips == 400 and batches < 0.7 * clips


def test_metrics_count_what_happened(service, wavs):
    names = ("kws_clips_total", "kws_audio_seconds_total", "kws_errors_total", "kws_labels_total",
             "ts_inference_requests_total", "kws_handler_seconds_count")
    before = {name: service.total(name) for name in names}
    for body in (wavs["yes"], wavs["yes"], wavs["no"], b"", b"x"):
        requests.post(service.predictions, data=body, timeout=10)
    time.sleep(1)  # they travel through the worker's output
    gained = {name: service.total(name) - before[name] for name in names}
    assert gained == {"kws_clips_total": 5, "kws_audio_seconds_total": pytest.approx(3.0), "kws_errors_total": 2,
                      "kws_labels_total": 3, "ts_inference_requests_total": 5, "kws_handler_seconds_count": 5}


def queued_ms(service, ask):
    """Mean time that requests waited for a worker while `ask` ran: what the service is scaled on."""
    names = ("ts_queue_latency_microseconds", "ts_inference_requests_total")
    before = [service.total(name) for name in names]
    ask()
    microseconds, count = (service.total(name) - old for name, old in zip(names, before))
    return microseconds / 1000 / count


def test_the_time_in_the_queue_rises_under_overload_and_falls_afterwards(service, wavs):
    def ask(connections, count):
        with ThreadPoolExecutor(connections) as pool, requests.Session() as session:
            send = lambda _: session.post(service.predictions, data=wavs["yes"], timeout=30).status_code  # noqa: E731
            assert set(pool.map(send, range(count))) == {200}

    quiet, overloaded, after = (queued_ms(service, functools.partial(ask, *load))
                                for load in ((1, 50), (64, 1500), (1, 50)))
    assert overloaded > 3 * max(quiet, after), (quiet, overloaded, after)


def test_alerts_ask_for_metrics_that_there_are():
    names = set(re.findall(r"name: (\w+)", (ROOT / "torchserve/metrics.yaml").read_text()))
    names |= {f"kws_handler_seconds_{part}" for part in ("bucket", "count", "sum")}
    for group in yaml.safe_load((ROOT / "torchserve/alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert set(re.findall(r"\b(?:kws|ts|Requests|Queue)\w+(?=\[)", rule["expr"])) <= names, rule


def test_the_load_test_measures(service, wavs, tmp_path):
    for label, wav in wavs.items():
        (tmp_path / f"{label}.wav").write_bytes(wav)
    done = subprocess.run([sys.executable, str(ROOT / "scripts/load_test.py"), str(tmp_path), "--url",
                           service.predictions, "--rates", "20", "40", "--requests", "60", "--output",
                           str(tmp_path / "load")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "load/load.json").read_text())
    assert [(row["rate"], row["requests"], row["failures"]) for row in rows] == [(20, 60, {}), (40, 60, {})]
    assert all(0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"] for row in rows)
    assert (tmp_path / "load/load.png").stat().st_size > 10_000


def test_a_killed_worker_is_replaced_under_load(service, wavs):
    worker, seconds = service.worker(), 60 if FULL else 20
    timer = threading.Timer(5, os.kill, (worker, signal.SIGKILL))
    timer.start()
    measured = load.run(service.predictions, list(wavs.values()), rate=30, count=30 * seconds, timeout=30)
    assert np.mean(measured.outcomes != load.OK) <= 0.01, measured.summary()
    assert service.worker() not in (None, worker)


@pytest.mark.slow
def test_memory_stays_flat(service, wavs):
    seconds = 600 if FULL else 60
    load.run(service.predictions, list(wavs.values()), rate=50, count=50 * seconds // 5)
    before = service.memory()
    assert load.run(service.predictions, list(wavs.values()), rate=50, count=50 * seconds).summary()["failures"] == {}
    assert service.memory() < 1.05 * before and service.memory() < 900e6


def test_it_finishes_what_it_began_and_comes_back_with_the_model(needs_torchserve, archive, wavs):
    with Process(archive, wavs["yes"], DRAIN_SECONDS="3") as running:
        timer = threading.Timer(4, running.process.terminate)  # 2 s of warming up, 2 of 4 s of requests
        timer.start()
        measured = load.run(running.predictions, list(wavs.values()), rate=50, count=200)
        assert measured.summary()["failures"] == {}
        running.process.wait(30)
        with pytest.raises(requests.ConnectionError):
            requests.post(running.predictions, data=wavs["no"], timeout=10)
        running.start()
        assert requests.post(running.predictions, data=wavs["no"], timeout=10).json()["label"] == "no"


def test_it_says_no_first_and_answers_an_upload_that_it_has_begun_to_take(needs_torchserve, archive, wavs):
    with Process(archive, wavs["yes"], DRAIN_SECONDS="3") as running:
        assert running.is_ready()
        with socket.create_connection(running.address()) as slow:
            slow.sendall(b"POST /predictions/kws HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(wavs["no"]))
            running.process.terminate()
            time.sleep(1)
            assert not running.is_ready()
            assert requests.post(running.predictions, data=wavs["yes"], timeout=10).json()["label"] == "yes"
            time.sleep(3)  # beyond DRAIN_SECONDS
            slow.sendall(wavs["no"])
            slow.settimeout(10)
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert running.process.wait(30) is not None


def test_a_token_is_required_where_it_was_asked_for(needs_torchserve, archive, wavs):
    running = Process(archive, wavs["yes"], TS_DISABLE_TOKEN_AUTHORIZATION="false",
                      TS_CORS_ALLOWED_ORIGIN="http://demo.example")
    with pytest.raises(AssertionError, match="no answer"):
        running.wait(wavs["yes"], lambda: False)
    keys = running.folder / "key_file.json"
    try:
        with open(running.folder / "log", "ab") as log:
            running.process = subprocess.Popen([running.folder / "serve.sh"], env=running.environment, stdout=log,
                                               stderr=log)
        while not keys.is_file():
            time.sleep(0.2)
        time.sleep(1)
        headers = {"Authorization": f"Bearer {json.loads(keys.read_text())['inference']['key']}"}
        running.wait(wavs["yes"], lambda: running.process.poll() is None, headers)
        for wrong in ({}, {"Authorization": "Bearer wrong"}):
            answer = requests.post(running.predictions, data=wavs["yes"], headers=wrong, timeout=10)
            assert answer.status_code == 400 and "Token" in answer.json()["message"]
        answer = requests.post(running.predictions, data=wavs["yes"], timeout=10,
                               headers={**headers, "Origin": "http://demo.example"})
        assert answer.json()["label"] == "yes"
        assert answer.headers["access-control-allow-origin"] == "http://demo.example"
        checked = subprocess.run([sys.executable, "healthcheck.py"], cwd=running.folder, env=running.environment)
        assert checked.returncode == 0
    finally:
        running.__exit__()
    checked = subprocess.run([sys.executable, "healthcheck.py"], cwd=ROOT / "torchserve", env=running.environment,
                             capture_output=True)
    assert checked.returncode != 0


@pytest.fixture(scope="module")
def image(archive, tmp_path_factory):
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine")
    if subprocess.run(["docker", "image", "inspect", BASE_IMAGE], capture_output=True).returncode:
        pytest.skip(f"no image {BASE_IMAGE}")
    context = tmp_path_factory.mktemp("context") / "torchserve"
    shutil.copytree(ROOT / "torchserve", context, ignore=shutil.ignore_patterns("model-store"))
    (context / "model-store").mkdir()
    shutil.copy(archive, context / "model-store")
    docker("build", "--network", "host", "--tag", "kws-serve:test", str(context))
    yield "kws-serve:test"
    docker("image", "rm", "--force", "kws-serve:test")


def test_a_container_answers_by_itself_and_stops_when_told(image, wavs, spotter_folder, tmp_path):
    with Container(image) as running:
        running.wait(wavs["yes"], running.is_alive)
        check_curl(running.predictions, wavs, spotter_folder, tmp_path)
        assert docker("exec", running.name, "id", "--user", "--name") == "model-server"
        assert docker("exec", running.name, "python", "healthcheck.py") == ""
        began = time.monotonic()
        docker("stop", running.name)  # kills after 10 s
        assert time.monotonic() - began < 9
        docker("start", running.name)
        running.wait(wavs["yes"], running.is_alive)
        assert requests.post(running.predictions, data=wavs["no"], timeout=10).json()["label"] == "no"


def test_a_container_with_tokens_is_healthy(image, wavs):
    with Container(image, TS_DISABLE_TOKEN_AUTHORIZATION="false") as running:
        def keys():
            done = subprocess.run(["docker", "exec", running.name, "cat", "key_file.json"], capture_output=True)
            return json.loads(done.stdout or "{}")

        while not keys():
            assert running.is_alive()
            time.sleep(0.5)
        time.sleep(1)
        headers = {"Authorization": f"Bearer {keys()['inference']['key']}"}
        running.wait(wavs["yes"], running.is_alive, headers)
        assert requests.post(running.predictions, data=wavs["yes"], timeout=10).status_code == 400
        assert docker("exec", running.name, "python", "healthcheck.py") == ""
