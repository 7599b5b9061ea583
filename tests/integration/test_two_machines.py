"""Training on two machines: network namespaces with a cable between them, and no folder in common."""
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from kws.__main__ import main

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
ADDRESSES = {"first": "10.77.7.1", "second": "10.77.7.2"}
NETWORK = {"network": "folded-mel", "stem": {"channels": 8, "kernel": [5, 5], "stride": [2, 2]},
           "spectral": [{"channels": 8, "stride": [2, 2]}], "temporal": {"channels": 16, "blocks": 1, "kernel": 3},
           "dropout": 0.1}
WORDS = {"low": 300, "high": 3000, "hum": 1000, "_background_noise_": 0}


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


@pytest.fixture(scope="module")
def network():
    """Two hosts that reach each other and nothing else: name in `ADDRESSES` -> namespace."""
    names = {name: f"kws-{os.getpid()}-{name}" for name in ADDRESSES}
    try:
        for name in names.values():
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here ({getattr(error, 'stderr', '').strip() or error}); they need root and "
                    "Debian's package iproute2")
    try:
        ip("link", "add", "cable", "netns", names["first"], "type", "veth", "peer", "cable", "netns", names["second"])
        for name, namespace in names.items():
            ip("-n", namespace, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", namespace, "link", "set", device, "up")
        yield names
    finally:
        for namespace in names.values():
            for pid in ip("netns", "pids", namespace, check=False).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", namespace, check=False)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """A folder for each machine, with a configuration and a prepared store of its own."""
    rng, folders = np.random.default_rng(0), {}
    source = tmp_path_factory.mktemp("machines")
    for word, frequency in WORDS.items():
        (source / "data" / word).mkdir(parents=True)
        for take in range(20):
            sound = 0.3 * np.sin(np.arange(4000) * frequency * rng.uniform(0.06, 0.065) / 160)
            soundfile.write(source / "data" / word / f"{take}.wav", sound + rng.normal(0, 0.01, 4000), 16000)
    (source / "arch.yaml").write_text(yaml.safe_dump(NETWORK))
    document = yaml.safe_load((ROOT / "configs/kws.yaml").read_text())
    document["architecture"] = "arch.yaml"
    document["data"].update(root="data", keywords=["low", "high"], clip_seconds=0.25, split_by="take",
                            validation_percent=20.0)
    document["features"]["num_mels"] = 20
    document["training"].update(epochs=3, min_epoch_steps=60, batch_size=16, warmup_epochs=0.5, num_threads=1)
    (source / "kws.yaml").write_text(yaml.safe_dump(document))
    assert main(["prepare", str(source / "kws.yaml"), "--set", f"data.root={source / 'data'}", "--set",
                 f"data.prepared={source / 'prepared/kws'}", "--reports", str(source / "reports")]) == 0
    for name in ADDRESSES:
        folders[name] = tmp_path_factory.mktemp(name)
        subprocess.run(["cp", "-r", *(str(source / part) for part in ("kws.yaml", "arch.yaml", "prepared")),
                        str(folders[name])], check=True)
    return folders


def start(network, machines, name, *options):
    """Start torchrun on a machine, as the documentation says."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank",
               str(list(ADDRESSES).index(name)), "--nproc-per-node", "1", "--master-addr", ADDRESSES["first"],
               "--master-port", "29500", "-m", "kws", "train", "kws.yaml", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                   "MLFLOW_DISABLE_TELEMETRY": "true"}
    for variable in ("MLFLOW_TRACKING_URI", "GLOO_SOCKET_IFNAME"):
        environment.pop(variable, None)
    return subprocess.Popen(["ip", "netns", "exec", network[name], *command], cwd=machines[name], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def errors(output):
    return [line for line in output.splitlines() if line.startswith("error: ")]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_machines_train_one_model_and_go_on_after_one_was_lost(network, machines):
    first, second = (start(network, machines, name) for name in ADDRESSES)
    checkpoints = machines["first"] / "runs/kws"
    deadline = time.monotonic() + 500
    while not list(checkpoints.glob("checkpoint-*/trainer_state.json")) and first.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lost = time.monotonic()  # in the second epoch
    for pid in ip("netns", "pids", network["second"]).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    output = first.communicate(timeout=120)[0]
    second.communicate(timeout=10)
    assert first.returncode != 0 and time.monotonic() - lost < 60
    assert errors(output) == ["error: the connection to another process of this training broke; start all processes "
                              "again, with --resume once an epoch is finished"]
    assert not (machines["first"] / "models/kws").exists()

    running = [start(network, machines, name, "--resume", "-v") for name in ADDRESSES]
    outputs = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert re.findall(r"^epoch (\d)/3", outputs[0], re.M) in (["2", "3"], ["3"])
    assert "epoch" not in outputs[1] and "models/kws" not in outputs[1]
    assert contents(machines["first"] / "models/kws") == contents(machines["second"] / "models/kws")
    assert pd.read_csv(machines["second"] / "models/kws/history.csv")["epoch"].tolist() == [1, 2, 3]
    assert (machines["first"] / "runs/kws.log").exists() and not (machines["second"] / "runs/kws.log").exists()
    with sqlite3.connect(machines["first"] / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]
    assert not (machines["second"] / "mlflow.db").exists()


def test_a_machine_with_another_seed_ends_both_with_one_line(network, machines):
    running = [start(network, machines, name, "--set", "tracking.enabled=false", "--set", f"seed={seed}")
               for seed, name in enumerate(ADDRESSES)]
    for process in running:
        lines = errors(process.communicate(timeout=500)[0])
        assert process.returncode != 0 and len(lines) == 1 and "seed is 1, was 0" in lines[0], lines
