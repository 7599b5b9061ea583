"""The service, run for tests: TorchServe as a process or as a container, on ports of its own."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).resolve().parents[2]
TONES, UNKNOWN_HERTZ = {"yes": 400.0, "no": 900.0}, 2500.0  # what the model of these tests tells apart


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


class Server:
    """A service on ports of its own; `url` answers."""

    def __init__(self, **settings):
        http, management, metrics, self.readiness_port, *grpc = free_ports(6)
        self.url, self.management, self.metrics = (f"http://127.0.0.1:{port}" for port in (http, management, metrics))
        self.predictions = f"{self.url}/predictions/kws"
        self.settings = {"TS_INFERENCE_ADDRESS": self.url, "TS_MANAGEMENT_ADDRESS": self.management,
                         "TS_METRICS_ADDRESS": self.metrics,
                         "READINESS_ADDRESS": f"http://127.0.0.1:{self.readiness_port}",
                         "TS_GRPC_INFERENCE_PORT": str(grpc[0]),
                         "TS_GRPC_MANAGEMENT_PORT": str(grpc[1]), "DRAIN_SECONDS": "0", **settings}

    def wait(self, wav, is_alive, headers=None):
        deadline = time.monotonic() + 120
        while is_alive() and time.monotonic() < deadline:
            try:
                if requests.post(self.predictions, data=wav, headers=headers, timeout=20).status_code == 200:
                    return
            except (requests.ConnectionError, requests.Timeout):
                pass
            time.sleep(0.2)
        raise AssertionError(f"no answer at {self.predictions}")

    def is_ready(self):
        """What whoever balances the load is told."""
        try:
            return requests.get(f"http://127.0.0.1:{self.readiness_port}/ping", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def address(self):
        """(host, port) of predictions."""
        return "127.0.0.1", int(self.url.rsplit(":", 1)[1])

    def worker(self):
        """The process id of the worker that is ready, None without one."""
        workers = requests.get(f"{self.management}/models/kws", timeout=10).json()[0]["workers"]
        return next((worker["pid"] for worker in workers if worker["status"] == "READY" and worker["pid"] > 0), None)

    def values(self):
        """All metrics: name and labels -> value."""
        lines = requests.get(f"{self.metrics}/metrics", timeout=10).text.splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    def total(self, name):
        return sum(value for key, value in self.values().items() if re.match(rf"{name}\b", key))


class Process(Server):
    """TorchServe as torchserve/serve.sh starts it, in a folder of its own."""

    def __init__(self, archive, wav, **settings):
        super().__init__(**settings)
        self.scratch = tempfile.TemporaryDirectory(prefix="kws")  # short: a socket's path has at most 107 characters
        self.folder, self.wav = Path(self.scratch.name) / "torchserve", wav
        shutil.copytree(ROOT / "torchserve", self.folder,
                        ignore=shutil.ignore_patterns("model-store", "logs", "*.json"))
        (self.folder / "model-store").mkdir()
        shutil.copy(archive, self.folder / "model-store")
        self.environment = {**os.environ, **self.settings, "TMPDIR": self.scratch.name,
                            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def start(self, headers=None):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([self.folder / "serve.sh"], env=self.environment, stdout=log, stderr=log)
        try:
            self.wait(self.wav, lambda: self.process.poll() is None, headers)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}; its log:\n{(self.folder / 'log').read_text()[-3000:]}") from None

    def stop(self):
        """SIGTERM, as `docker stop` sends it; returns the seconds until every process was gone."""
        began, everything = time.monotonic(), [self.process.pid]
        if self.process.poll() is None:
            everything = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            self.process.terminate()
            self.process.wait(60)
            psutil.wait_procs(everything[1:], timeout=30)
            assert not any(process.is_running() for process in everything[1:])
        return time.monotonic() - began

    def memory(self):
        """Bytes of all its processes; what they share counts once."""
        process = psutil.Process(self.process.pid)
        return sum(each.memory_full_info().pss for each in [process, *process.children(recursive=True)])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.scratch.cleanup()


class Container(Server):
    """The image, run; on the host's network, which an engine without a bridge has too."""

    def __init__(self, image, **settings):
        super().__init__(**settings)
        options = [part for name, value in self.settings.items() for part in ("--env", f"{name}={value}")]
        self.name = docker("run", "--detach", "--network", "host", *options, image)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        docker("rm", "--force", self.name)

    def is_alive(self):
        return docker("inspect", "--format", "{{.State.Running}}", self.name) == "true"


def docker(*arguments):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()
