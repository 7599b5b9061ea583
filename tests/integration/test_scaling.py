"""Two copies of the service behind HAProxy, as torchserve/haproxy.cfg has it."""
import itertools
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack

import pytest
import requests
from kws_service import ROOT, Process, free_ports

pytestmark = [pytest.mark.services, pytest.mark.skipif(not shutil.which("haproxy"), reason="no haproxy")]
CONFIGURATION = ROOT / "torchserve/haproxy.cfg"


class Proxy:
    """HAProxy with our configuration; its ports are replaced by free ones and those of two services."""

    def __init__(self, folder, ports, slow="10s"):
        listens, statistics = free_ports(2)
        text = CONFIGURATION.read_text()
        for shipped, own in {"bind :8000": f"bind 127.0.0.1:{listens}", ":8404": f":{statistics}",
                             "127.0.0.1:8080 port 8083": "127.0.0.1:{} port {}".format(*ports[0]),
                             "127.0.0.1:9080 port 9083": "127.0.0.1:{} port {}".format(*ports[1]),
                             "timeout http-request 10s": f"timeout http-request {slow}"}.items():
            assert text.count(shipped) == 1
            text = text.replace(shipped, own)
        self.configuration = folder / "haproxy.cfg"
        self.configuration.write_text(text)
        self.address = "127.0.0.1", listens
        self.url = f"http://127.0.0.1:{listens}"
        self.predictions, self.statistics = f"{self.url}/predictions/kws", f"http://127.0.0.1:{statistics}"

    def __enter__(self):
        self.process = subprocess.Popen(["haproxy", "-f", self.configuration], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_until(self.answers)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def answers(self):
        try:
            return requests.get(f"{self.url}/ping", timeout=5)
        except requests.ConnectionError:
            return None

    def up(self):
        """How many of the two services get requests."""
        metrics = requests.get(f"{self.statistics}/metrics", timeout=10).text
        return int(re.search(r'haproxy_backend_active_servers{proxy="kws"} (\d+)', metrics)[1])


def wait_until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def services(needs_torchserve, archive, wavs):
    running = [Process(archive, wavs["yes"], DRAIN_SECONDS="5") for _ in range(2)]
    with ExitStack() as held, ThreadPoolExecutor() as pool:
        starting = [pool.submit(each.start) for each in running]
        wait(starting)
        for each in running:
            held.push(each)  # which stops all its processes; to kill the first would leave the others
        for each in starting:
            each.result()
        yield running


@pytest.fixture(scope="module")
def proxy(services, tmp_path_factory):
    ports = [(each.address()[1], each.readiness_port) for each in services]
    with Proxy(tmp_path_factory.mktemp("proxy"), ports, slow="2s") as running:
        wait_until(lambda: running.up() == 2)
        yield running


def error_code(answer):
    assert answer.headers["Content-Type"] == "application/json" and answer.json()["error"]["message"]
    return answer.status_code, answer.json()["error"]["code"]


def test_without_a_service_users_are_told_so_in_the_usual_shape(tmp_path, wavs):
    with Proxy(tmp_path, [free_ports(2), free_ports(2)]) as proxy:
        wait_until(lambda: proxy.up() == 0)
        for answer in (requests.post(proxy.predictions, data=wavs["yes"], timeout=10), proxy.answers()):
            assert error_code(answer) == (503, "unavailable")


def test_too_much_is_refused_whether_its_length_was_announced_or_not(proxy, wavs):
    body = bytes(7_000_000)
    announced = requests.post(proxy.predictions, data=body, timeout=30)
    chunked = requests.post(proxy.predictions, data=(body[:1000] for _ in range(7000)), timeout=30)
    assert error_code(announced) == error_code(chunked) == (413, "too_large")
    assert requests.post(proxy.predictions, data=iter([wavs["no"]]), timeout=10).json()["label"] == "no"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_may_send_what_comes_through_a_pipe(proxy, wavs):
    done = subprocess.run(["curl", "--silent", "-T", "-", proxy.predictions], input=wavs["no"], capture_output=True)
    assert json.loads(done.stdout)["label"] == "no"


def test_errors_of_the_service_pass_through(proxy):
    assert error_code(requests.post(proxy.predictions, data=b"hello", timeout=10)) == (415, "unsupported_audio")


def test_slow_clients_are_sent_away_and_hold_nobody_up(proxy, wavs):
    slow = [socket.create_connection(proxy.address) for _ in range(80)]  # more than both services take at a time
    head = b"POST /predictions/kws HTTP/1.1\r\nHost: x\r\nContent-Length: 32044\r\n\r\n"
    for client in slow:
        client.sendall(head + wavs["yes"][:999])
    assert requests.post(proxy.predictions, data=wavs["no"], timeout=2).json()["label"] == "no"
    for client in slow:
        client.settimeout(10)
        answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408") and b'"too_slow"' in answer
        client.close()


def test_a_service_is_replaced_under_load_and_no_request_fails(proxy, services, tone, wav_bytes):
    """Nobody tells the proxy. The recordings do not fit its buffer: it cannot hide a lost one by sending it again."""
    recordings = {word: wav_bytes(tone(hertz, seconds=5.0)) for word, hertz in (("yes", 400.0), ("no", 900.0))}
    counts, stop = Counter(), threading.Event()

    def ask():
        with requests.Session() as session:
            for word in itertools.cycle(recordings):
                if stop.is_set():
                    return
                try:
                    answer = session.post(proxy.predictions, data=recordings[word], timeout=30)
                    counts[answer.status_code, answer.json().get("label") == word] += 1
                except requests.RequestException as error:
                    counts[type(error).__name__, False] += 1

    first, second = services
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        first.stop()
        first.start()
        wait_until(lambda: proxy.up() == 2)
        second.stop()  # the new one is alone
        time.sleep(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert counts.keys() == {(200, True)}, counts
    assert proxy.up() == 1 and counts[200, True] > 100
