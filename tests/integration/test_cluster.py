"""Predictions on a real Ray cluster of two nodes, each in a network namespace of its own, and into a real S3 server."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_SOME_FAILED
from kws.files.places import place

pytestmark = pytest.mark.services
pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[2]
ROWS = 8000  # eight parts
MINUTES = 8  # for anything to happen on a busy machine
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled",
               "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
VERSION_OF_OTHERS = "import ray; ray.__version__ = '2.0.0'; from kws.__main__ import run_program; run_program()"


class Node:
    """A machine of its own, as far as the network goes."""

    def __init__(self, number: int) -> None:
        self.name, self.address = f"kws{os.getpid()}-{number}", f"10.91.7.{number + 1}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)

    def command(self, *command: object) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def run(self, *command: object, **options) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*command), env=ENVIRONMENT, text=True, capture_output=True,
                              timeout=60 * MINUTES, **options)

    def start_ray(self, *arguments: str) -> None:
        done = self.run("ray", "start", f"--node-ip-address={self.address}", "--num-cpus=1", "--disable-usage-stats",
                        "--object-store-memory=100000000", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self) -> None:
        """End everything on it at once, as a power cut does."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], text=True, capture_output=True).stdout.split()
        for pid in map(int, pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self) -> None:
        self.kill()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)


@pytest.fixture(scope="module")
def nodes():
    if os.getuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and Debian's package iproute2")
    if subprocess.run(["ip", "netns", "add", f"kws{os.getpid()}-0"], capture_output=True).returncode:
        pytest.skip("this machine makes no network namespaces")
    subprocess.run(["ip", "netns", "delete", f"kws{os.getpid()}-0"], check=True)
    first, second = Node(0), Node(1)
    subprocess.run(["ip", "link", "add", "kws0", "netns", first.name, "type", "veth", "peer", "name", "kws0", "netns",
                    second.name], check=True)
    for node in (first, second):
        for command in (["link", "set", "lo", "up"], ["addr", "add", f"{node.address}/24", "dev", "kws0"],
                        ["link", "set", "kws0", "up"]):
            subprocess.run(["ip", "-n", node.name, *command], check=True)
    try:
        first.start_ray("--head", "--port=6379", "--include-dashboard=false")
        second.start_ray(f"--address={first.address}:6379")
        yield first, second
    finally:
        first.remove()
        second.remove()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, tone, noise, wav_bytes):
    """Many rows of few recordings, some of them bad."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"{number}.wav" for number in range(20)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(wav_bytes(tone(200.0 + 30 * number, 0.5) + noise(number, 0.5)))
    (folder / "empty.wav").write_bytes(b"")
    names += ["empty.wav", "absent.wav", "ü, \"x\".wav"]
    pd.DataFrame({"path": [names[row * 7 % len(names)] for row in range(ROWS)], "label": "yes"}).to_csv(
        folder / "list.csv", index=False)
    return folder / "list.csv"


def predict_on(node: Node, address: str, *arguments: object) -> list[str]:
    return node.command(sys.executable, "-m", "kws", "predict", *arguments, "--ray", address)


def test_a_node_that_dies_costs_no_row_and_makes_none_twice(nodes, manifest, exported, tmp_path):
    first, second = nodes
    arguments = (manifest, "--model", exported, "--output_path")
    running = subprocess.Popen(predict_on(first, f"{first.address}:6379", *arguments, tmp_path / "many.csv"),
                               env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60 * MINUTES
    while not list((tmp_path / "many.csv.parts").glob("part-*")):
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.05)
    second.kill()
    assert running.poll() is None, "it died too late to show anything"
    told, errors = running.communicate(timeout=60 * MINUTES)
    assert running.returncode == EXIT_SOME_FAILED, errors
    assert main(["predict", *map(str, arguments), str(tmp_path / "one.csv")]) == EXIT_SOME_FAILED
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert f"{ROWS:,} rows" in told and not (tmp_path / "many.csv.parts").exists()


def test_a_cluster_of_another_ray_is_refused(nodes, manifest, exported, tmp_path):
    first, _ = nodes
    done = first.run(sys.executable, "-c", VERSION_OF_OTHERS, "predict", manifest, "--model", exported, "--output_path",
                     tmp_path / "x.csv", "--ray", f"{first.address}:6379")
    assert done.returncode == EXIT_BAD_INPUT and not list(tmp_path.iterdir())
    assert "Version mismatch" in done.stderr and "same releases of Python and Ray" in done.stderr
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr


def test_a_cluster_that_is_not_there_is_said_at_once(manifest, exported, tmp_path, capsys):
    assert main(["predict", str(manifest), "--model", str(exported), "--output_path", str(tmp_path / "x.csv"), "--ray",
                 "127.0.0.1:1"]) == EXIT_BAD_INPUT
    assert "error: --ray 127.0.0.1:1: nothing answers there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_from_a_bucket_into_a_bucket(bucket, manifest, exported, tmp_path):
    for path in sorted(manifest.parent.glob("*.wav")):
        place(f"{bucket}/wavs/{path.name}").write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "kws", "predict", f"{bucket}/wavs", "--model", str(exported), "--output_path",
               f"{bucket}/labels/", "--ray", "local", "--workers", "1"]
    done = subprocess.run(command, env={**ENVIRONMENT, **os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, text=True,
                          capture_output=True, timeout=60 * MINUTES)
    assert done.returncode == EXIT_SOME_FAILED, done.stderr
    names = sorted(path.name for path in place(f"{bucket}/labels").iterdir())
    assert names[0] == "_table.json" and len(names) == 2 and names[1].startswith("part-000000-")
    assert json.loads(place(f"{bucket}/labels/_table.json").read_text())["program"] == "kws.predict"
    with place(f"{bucket}/labels/{names[1]}").open("rb") as file:
        table = pd.read_parquet(file)
    main(["predict", str(manifest.parent), "--model", str(exported), "--output_path", str(tmp_path / "one.csv")])
    one = pd.read_csv(tmp_path / "one.csv")
    wavs = one[one["path"].str.endswith(".wav")].reset_index(drop=True)
    assert table[["path", "label"]].fillna("").equals(wavs[["path", "label"]].fillna(""))
