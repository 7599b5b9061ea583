"""A small project of its own: a Git repository with this code, a tiny corpus and a small network, run by real DVC."""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("kws", "scripts", "configs", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".gitignore")
# One process of a pipeline at a time; nobody's own settings, no network.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GIT_CONFIG_GLOBAL": os.devnull,
               "GIT_CONFIG_SYSTEM": os.devnull, "GIT_AUTHOR_NAME": "A Tester", "GIT_AUTHOR_EMAIL": "a@example.org",
               "GIT_COMMITTER_NAME": "A Tester", "GIT_COMMITTER_EMAIL": "a@example.org",
               "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)


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
