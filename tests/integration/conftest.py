"""What is made once for all tests of services.

A small project: a Git repository with this code, a tiny corpus and a small network, run by real DVC. A model that tells
tones apart, packed for TorchServe.
"""
from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import boto3
import numpy as np
import pytest
import soundfile
import torch
import yaml
from kws_page import served
from kws_service import TONES, UNKNOWN_HERTZ
from moto.server import ThreadedMotoServer

from kws.config.architecture import load_architecture
from kws.export.to_onnx import export
from kws.model.modeling import KwsFeatureExtractor, build_model

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("kws", "scripts", "configs", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore")
# One process of a pipeline at a time; nobody's own settings, no network.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GIT_CONFIG_GLOBAL": os.devnull,
               "GIT_CONFIG_SYSTEM": os.devnull, "GIT_AUTHOR_NAME": "A Tester", "GIT_AUTHOR_EMAIL": "a@example.org",
               "GIT_COMMITTER_NAME": "A Tester", "GIT_COMMITTER_EMAIL": "a@example.org",
               "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session", autouse=True)
def all_cores() -> None:
    """Services are tried by one worker (pytest -n), which need not keep to its core."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Project:
    """A working copy."""

    folder: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, with the code of this copy."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=600,
                              env={**ENVIRONMENT, "PYTHONPATH": str(self.folder), **environment})
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, **environment: str) -> str:
        """Run a command of DVC and return what it prints."""
        return self.run("dvc", *arguments, **environment).stdout

    def git(self, *arguments: str) -> str:
        """Run a command of Git and return what it prints."""
        return self.run("git", *arguments).stdout.strip()

    def clone(self, folder: Path) -> Project:
        """Clone what is committed."""
        self.git("clone", "--quiet", str(self.folder), str(folder))
        return Project(folder)

    def configure(self, **sections: dict[str, object]) -> None:
        """Change keys of configs/kws.yaml."""
        path = self.folder / "configs/kws.yaml"
        document = yaml.safe_load(path.read_text())
        for section, values in sections.items():
            document[section].update(values)
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def contents(self, *folders: str) -> dict[str, bytes]:
        """Names and bytes of all files below some folders."""
        return {str(path.relative_to(self.folder)): path.read_bytes()
                for folder in folders for path in sorted((self.folder / folder).rglob("*")) if path.is_file()}


def make_project(folder: Path) -> Project:
    """Lay out the project, uncommitted, with its corpus in DVC."""
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    project = Project(folder)
    project.configure(data={"keywords": ["yes", "no"]}, tracking={"enabled": False},
                      training={"epochs": 1, "min_epoch_steps": 0, "warmup_epochs": 0.5, "num_threads": 1},
                      streams={"steps": 2, "batch_size": 2, "seconds": 2.5})
    document = yaml.safe_load((folder / "configs/kws.yaml").read_text())
    (folder / "configs/kws.yaml").write_text(yaml.safe_dump(
        {**document, "architecture": "configs/arch/nano.yaml"}, sort_keys=False))
    project.git("init", "--quiet", "--initial-branch=main")
    project.run(sys.executable, "scripts/synthesize.py", "data", "--keywords", "yes", "no", "--words", "bed", "cat",
                "--speakers", "12", "--takes", "2", "1")
    project.dvc("add", "--quiet", "data")
    return project


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`, committed; for reading only."""
    project = make_project(tmp_path_factory.mktemp("pipeline") / "project")
    project.dvc("repro", "--quiet")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "the first model")
    return project


@pytest.fixture
def copy(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of that project to work on."""
    shutil.copytree(reproduced.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def s3(free_port: Callable[[], int]) -> Iterator[tuple[str, dict[str, str]]]:
    """An S3 endpoint on the loopback interface with the buckets `kws` and `mlflow`: (address, credentials)."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    credentials = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="tester",
                          aws_secret_access_key="secret")
    for bucket in ("kws", "mlflow"):
        client.create_bucket(Bucket=bucket)
    yield address, credentials
    server.stop()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """free_port() -> a port of the loopback interface that nobody listens on."""
    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def spotter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained, in seconds, to tell two tones, a third and silence apart."""
    torch.manual_seed(0)
    labels = (*TONES, "_unknown_", "_silence_")
    features = dict(n_fft=512, window_ms=30.0, hop_ms=10.0, num_mels=40, fmin_hz=20.0, fmax_hz=8000.0, log_offset=1e-6)
    model = build_model(labels, 16000, 16000, features,
                        load_architecture(ROOT / "configs/arch/nano.yaml").as_json())
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=0.01), torch.Generator().manual_seed(0)
    times = torch.arange(16000) / 16000
    for _ in range(60):
        sounds = torch.stack([*((2 * torch.pi * hertz * times).sin() for hertz in (*TONES.values(), UNKNOWN_HERTZ)),
                              torch.zeros(16000)]).repeat(4, 1)
        gains = 10 ** (-1.0 * torch.rand(16, 1, generator=generator))
        waveforms = gains * sounds + 0.003 * torch.randn(16, 16000, generator=generator)
        optimizer.zero_grad()
        model(waveforms, labels=torch.arange(4).repeat(4)).loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("spotter") / "kws"
    model.eval().save_pretrained(folder)
    KwsFeatureExtractor(16000, 16000).save_pretrained(folder)
    export(folder, np.empty((0, 16000), dtype=np.int16))
    return folder


@pytest.fixture(scope="session")
def archive(spotter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model, as kws.mar."""
    store = tmp_path_factory.mktemp("archive") / "model-store"
    subprocess.run([sys.executable, str(ROOT / "scripts/archive.py"), str(spotter_folder), "--output", str(store)],
                   check=True)
    return store / "kws.mar"


@pytest.fixture(scope="session")
def wavs(tone: Callable[..., np.ndarray], noise: Callable[..., np.ndarray],
         wav_bytes: Callable[..., bytes]) -> dict[str, bytes]:
    """Each label's sound, a second of it."""
    sounds = {**{word: tone(hertz) for word, hertz in TONES.items()}, "_unknown_": tone(UNKNOWN_HERTZ)}
    return {label: wav_bytes(sound + noise(1, amplitude=0.003)) for label, sound in sounds.items()}


@pytest.fixture(scope="session")
def needs_torchserve() -> None:
    """Skip a test where TorchServe cannot run."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True) if shutil.which("java") else None
    version = re.search(r'version "(\d+)', java.stderr) if java else None
    if not version or int(version[1]) < 17:
        pytest.skip("no Java 17")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the page with the shipped model is."""
    with served() as address:
        yield address


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words that are far above the threshold, after a silence in which a microphone may be opened: 9 s, 16 kHz."""
    pause = np.zeros(4800)
    words = np.concatenate([part for name in ("left", "stop", "yes")
                            for part in (soundfile.read(ROOT / f"docs/samples/{name}.flac")[0], pause)])
    path = tmp_path_factory.mktemp("spoken") / "words.wav"
    soundfile.write(path, np.concatenate([np.zeros(12000), words, words, np.zeros(8000)]), 16000)
    return path
