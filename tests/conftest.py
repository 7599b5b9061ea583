"""Shared fixtures: generated audio and a small corpus in the Speech Commands layout. Nothing is read from the disk."""
from __future__ import annotations

import fcntl
import functools
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from kws.model.folder import SHIPPED

# Tests that run in the background ignore Ctrl-C, and so would the commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The garbage collector walks through all that was imported; as often as by default, it takes 5 % of all time.
gc.set_threshold(100_000, 50, 100)

# Workers side by side (pytest -n) keep to a core each, with the commands they start: threads that wait for each other
# on busy cores take many times as long. NumPy has its threads by now; PyTorch, SciPy and commands read OMP_NUM_THREADS.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threadpool_limits(1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].strip("gw")) % len(cores)]})

# A busy machine is no failure.
settings.register_profile("kws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kws")

# What the published rule makes of these speakers at 10 % / 10 %, computed with sha1sum and bc (see test_split.py).
SPEAKERS = {
    "training": ("00003039", "00006e17", "00008d06", "0000abf5", "0000cae4", "0000e9d3", "000108c2", "000127b1"),
    "validation": ("00004f28", "0001658f"),
    "testing": ("0001847e", "0003b14c"),
}
ROOT = Path(__file__).resolve().parents[1]
REAL_SPEECH = ROOT.parent / "shared" / "real-speech"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand modules out whole to workers (pytest -n), so that fixtures are made once; services are one worker's.

    Not --dist loadgroup: pytest-xdist 3.8 marks groups in a way that pytest 9.2 does not see.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "services" if module.startswith("tests/integration/") else module

    return ByModule(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core (pytest -n auto), up to eight; another takes 15 s to read the tests and gains less."""
    return min(len(os.sched_getaffinity(0)), 8)


@pytest.fixture(scope="session")
def copy_of_shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, for commands that may write to it."""
    return Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("trained") / "kws"))


@pytest.fixture(autouse=True)
def no_trained_model(copy_of_shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no model is named the shipped one answers, also in a clone in which somebody trained one."""
    monkeypatch.setattr("kws.commands.cli.TRAINED", copy_of_shipped)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a real S3 server; one for all tests, as its clients are kept."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, which this process and those that it starts can reach."""
    import boto3

    for variable, value in {"AWS_ENDPOINT_URL": s3_server, "AWS_ACCESS_KEY_ID": "anyone",
                            "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(variable, value)
    name = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def speakers() -> dict[str, tuple[str, ...]]:
    """The speakers of `corpus` by split."""
    return SPEAKERS


@pytest.fixture(scope="session")
def tone() -> Callable[..., np.ndarray]:
    """tone(frequency_hz, seconds=1.0, sample_rate=16000, amplitude=0.5) -> [T] float32."""
    def make(frequency_hz: float, seconds: float = 1.0, sample_rate: int = 16000,
             amplitude: float = 0.5) -> np.ndarray:
        times = np.arange(round(seconds * sample_rate)) / sample_rate
        return (amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """noise(seed, seconds=1.0, sample_rate=16000, amplitude=0.1) -> [T] float32, normal, clipped to -1..1."""
    def make(seed: int, seconds: float = 1.0, sample_rate: int = 16000, amplitude: float = 0.1) -> np.ndarray:
        samples = np.random.default_rng(seed).standard_normal(round(seconds * sample_rate))
        return np.clip(amplitude * samples, -1.0, 1.0).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def wav_bytes() -> Callable[..., bytes]:
    """wav_bytes(waveform [T] or [T, channels], sample_rate=16000, subtype="PCM_16", format="WAV") -> encoded bytes."""
    def encode(waveform: np.ndarray, sample_rate: int = 16000, subtype: str | None = "PCM_16",
               format: str = "WAV") -> bytes:
        file = io.BytesIO()
        soundfile.write(file, waveform, sample_rate, format=format, subtype=subtype)
        return file.getvalue()

    return encode


@pytest.fixture
def corpus(tmp_path: Path, tone: Callable[..., np.ndarray], noise: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """corpus(words=("yes", "no", "bed"), takes=2, suffix=".wav") -> a data folder with all three splits.

    Every word is a tone of its own, said by 12 speakers: 8 train, 2 validate, 2 test by the published rule. Two
    recordings of background noise are there. The clips of a word last from 0.6 to 1.2 s, by speaker.
    """
    def make(words: Sequence[str] = ("yes", "no", "bed"), takes: int = 2, suffix: str = ".wav") -> Path:
        root = tmp_path / "data"
        speakers = [speaker for names in SPEAKERS.values() for speaker in names]
        for word_number, word in enumerate(words):
            (root / word).mkdir(parents=True)
            for number, speaker in enumerate(speakers):
                for take in range(takes):
                    seconds = 0.6 + 0.6 * number / (len(speakers) - 1)
                    seed = (word_number * len(speakers) + number) * takes + take
                    clip = tone(300.0 + 200.0 * word_number + 5.0 * number, seconds)
                    clip += noise(seed, seconds, amplitude=0.02)
                    soundfile.write(root / word / f"{speaker}_nohash_{take}{suffix}", clip, 16000)
        (root / "_background_noise_").mkdir()
        for seed, name in enumerate(("hum", "rain")):
            soundfile.write(root / "_background_noise_" / f"{name}.wav", noise(1000 + seed, 3.0), 16000)
        return root

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)  # lazy: a log file may be open there


@pytest.fixture(scope="session")
def real_speech() -> Path:
    """The folder of real recordings that some machines have."""
    if not (REAL_SPEECH / "validation_list.txt").is_file():
        pytest.skip(f"no real recordings at {REAL_SPEECH}")
    return REAL_SPEECH


def made_once(name: str, make: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the first worker who wants it makes, and the others (pytest -n) wait for and share."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with open(place / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / name).is_dir():
            make(place / f"{name}.new")
            (place / f"{name}.new").rename(place / name)
    return place / name


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their pictures, which take two seconds; tests of reports have them."""
    monkeypatch.setattr("kws.evaluation.reports.page._png", lambda figure: "")


@pytest.fixture(scope="session")
def backgrounds_made_once() -> Iterator[None]:
    """Synthetic background sounds, always the same ones, are made once: a fifth of a second for each training, and five
    for one for running sound."""
    from kws.corpus import ambience, noises
    from kws.data import noise_bank
    from kws.training import stream_job

    with pytest.MonkeyPatch.context() as patch:
        for module, make in ((stream_job, ambience.places), (stream_job, ambience.music), (stream_job, noises.sounds),
                             (noise_bank, noises.sounds)):
            patch.setattr(module, make.__name__, functools.cache(make))
        yield


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model, exported; untrained, but normalised and fair to all labels: its answers vary."""
    return made_once("exported", _export_small_model, tmp_path_factory)


def _export_small_model(folder: Path) -> None:
    import torch

    from kws.config.architecture import load_architecture
    from kws.export.to_onnx import export
    from kws.model.modeling import KwsFeatureExtractor, build_model

    torch.manual_seed(0)
    features = dict(n_fft=512, window_ms=30.0, hop_ms=10.0, num_mels=40, fmin_hz=20.0, fmax_hz=8000.0, log_offset=1e-6)
    architecture = load_architecture(ROOT / "configs/arch/nano.yaml").as_json()
    model = build_model(("yes", "no", "_unknown_", "_silence_"), 16000, 16000, features, architecture)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for level in torch.rand(30, generator=generator):
            logits = model(level * (2 * torch.rand(8, 16000, generator=generator) - 1).cumsum(dim=1).sin()).logits
        model.network.head[-1].bias -= logits.mean(dim=0)
    model.eval()
    model.save_pretrained(folder)
    KwsFeatureExtractor(16000, 16000).save_pretrained(folder)
    export(folder, np.empty((0, 16000), dtype=np.int16))


@pytest.fixture(scope="session")
def model_store(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kws.mar, of the exported model, as scripts/archive.py packs it."""
    def pack(folder: Path) -> None:
        subprocess.run([sys.executable, str(ROOT / "scripts/archive.py"), str(exported), "--output", str(folder),
                        "--version", "1.2"], check=True)

    return made_once("model-store", pack, tmp_path_factory)
