"""The image of docker/Dockerfile, built around a tiny model and run by a real Docker engine."""
import asyncio
import csv
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import yaml
from onnx import helper
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient

import kws
from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED
from kws.config.architecture import load_architecture
from kws.config.sections import load_config
from kws.export.to_onnx import export
from kws.model.labels import LabelSet
from kws.model.modeling import build_model

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
BASE = "python:3.11-slim"
MAX_BYTES = 400 * 10**6
# Nobody of the image: what `--user "$(id -u):$(id -g)"` is on most machines. Tests run as root give it their files.
USER = os.getuid() or 4242


def docker(*arguments, check=True):
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, f"docker {arguments}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def engine():
    if shutil.which("docker") is None or docker("info", check=False).returncode:
        pytest.skip("no Docker engine answers")
    if docker("image", "inspect", BASE, check=False).returncode:
        pytest.skip(f"no image {BASE} here; `docker pull {BASE}` fetches it")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What a checkout holds after training and exporting, untidy things included."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("kws", "docker"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".dockerignore", folder)
    config = load_config(ROOT / "configs/kws.yaml")
    architecture = load_architecture(ROOT / "configs/arch/nano.yaml").as_json()
    model = build_model(LabelSet.from_keywords(("yes", "no", "left")).names, config.data.sample_rate,
                        config.data.num_samples, config.features.model_dump(), architecture)
    model.save_pretrained(folder / "models/tiny")
    export(folder / "models/tiny", np.zeros((0, config.data.num_samples), dtype=np.int16))
    for name in ("data/yes/a.wav", ".git/config", "preds.csv", "models/tiny/cache.pkl", ".env",
                 "kws/notes.txt", "kws/audio/decode.py.orig", "kws/audio/__pycache__/gone.cpython-311.pyc",
                 "kws/pretrained/kws-8/.cache/big.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("none of the engine's business")
    return folder


@pytest.fixture(scope="module")
def image(engine, context):
    tag = f"kws-test:{os.getpid()}"
    docker("build", "--network", "host", "-f", context / "docker/Dockerfile", "-t", tag, "--build-arg",
           "MODEL=models/tiny", "--build-arg", "SOURCE=https://example.org/kws", context)
    yield tag
    docker("image", "rm", "--force", tag)


@pytest.fixture
def clips(tmp_path, tone, noise, wav_bytes):
    """A folder of good recordings and bad ones."""
    contents = {f"good/{number:02}.wav": wav_bytes(tone(200.0 + 50 * number) + noise(number)) for number in range(12)}
    contents["good/long, stereo ü.flac"] = wav_bytes(
        np.stack([noise(90, 2.7, 44100), tone(440.0, 2.7, 44100)], axis=1), 44100, format="FLAC")
    contents.update({"bad/empty.wav": b"", "bad/text.wav": b"not a sound", "bad/cut.wav": wav_bytes(tone(300.0))[:999],
                     "bad/nan.wav": wav_bytes(np.full(16000, np.nan, dtype=np.float32), subtype="FLOAT")})
    for name, content in contents.items():
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "clips"


@pytest.fixture
def results(tmp_path):
    """A folder that USER may write to."""
    folder = tmp_path / "results"
    folder.mkdir()
    if os.getuid() != USER:
        os.chown(folder, USER, USER)
    return folder


def locked_down(image, source, results, *arguments, user=USER, options=("--rm",)):
    """The command of the README: no network, nothing writable but the folder of the table."""
    return ["run", "--network", "none", "--read-only", "--user", f"{user}:{user}", "-v", f"{source}:/in:ro",
            "-v", f"{results}:/out", *options, image, "--output_path", "/out/preds.csv", *arguments]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_container_writes_what_python_writes(image, context, clips, results, tmp_path):
    done = docker(*locked_down(image, clips, results, "--input_path", "/in"), check=False)
    assert (done.returncode, done.stderr) == (EXIT_SOME_FAILED, "")
    assert "17 rows, 4 errors" in done.stdout
    expected = tmp_path / "expected.csv"
    assert main(["predict", "--input_path", str(clips), "--output_path", str(expected), "--model",
                 str(context / "models/tiny")]) == EXIT_SOME_FAILED
    assert (results / "preds.csv").read_bytes() == expected.read_bytes()
    assert (results / "preds.csv").stat().st_uid == USER
    assert os.listdir(results) == ["preds.csv"]


@pytest.mark.parametrize("source, code", [("/in/good", EXIT_OK), ("/in", EXIT_SOME_FAILED),
                                          ("/in/absent", EXIT_BAD_INPUT)])
def test_the_exit_code_tells_how_it_went(image, clips, results, source, code):
    done = docker(*locked_down(image, clips, results, "--input_path", source), check=False)
    assert done.returncode == code
    assert (results / "preds.csv").exists() == (code != EXIT_BAD_INPUT)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option, expected", [(("--runtime", "torch"), "take the runtime onnx"),
                                              (("--format", "parquet"), "use CSV")])
def test_what_the_image_leaves_out_is_said_to_be_missing(image, clips, results, option, expected):
    done = docker(*locked_down(image, clips, results, "--input_path", "/in", *option), check=False)
    assert done.returncode == EXIT_BAD_INPUT and expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_of_somebody_else_is_explained(image, clips, results):
    done = docker(*locked_down(image, clips, results, "--input_path", "/in", user=USER + 1), check=False)
    assert done.returncode == EXIT_BAD_INPUT
    assert done.stderr.startswith("error: /out/preds.csv.part.json: Permission denied; ")
    assert '--user "$(id -u):$(id -g)"' in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_mounted_model_takes_the_place_of_the_one_inside(image, context, clips, results, tmp_path):
    shutil.copytree(context / "models/tiny", tmp_path / "models/kws")
    model = onnx.load(tmp_path / "models/kws/model.onnx")
    properties = {entry.key: entry.value.replace('"left"', '"fan"') for entry in model.metadata_props}
    helper.set_model_props(model, properties)
    onnx.save(model, tmp_path / "models/kws/model.onnx")
    docker(*locked_down(image, clips, results, "--input_path", "/in/good",
                        options=("--rm", "-v", f"{tmp_path}/models:/app/models:ro")))
    row = rows_of(results / "preds.csv")[0]
    assert "fan" in row and "left" not in row


def test_a_stopped_container_leaves_what_another_resumes(image, clips, results):
    count = 5000
    (clips / "list.csv").write_text("path\n" + "good/00.wav\nbad/empty.wav\n" * (count // 2))
    slowly = ("--workers", "1", "--batch_size", "1")
    container = docker(*locked_down(image, clips, results, "--input_path", "/in/list.csv", *slowly,
                                    options=("--detach",))).stdout.strip()
    part = results / "preds.csv.part"
    try:
        deadline = time.monotonic() + 60
        while (not part.exists() or part.stat().st_size < 2000) and time.monotonic() < deadline:
            time.sleep(0.02)
        began = time.monotonic()
        docker("stop", "--time", "60", container)
        assert time.monotonic() - began < 5
        assert docker("inspect", "-f", "{{.State.ExitCode}}", container).stdout.strip() == str(EXIT_INTERRUPTED)
    finally:
        docker("rm", "--force", container)
    assert not (results / "preds.csv").exists() and 10 < len(rows_of(part)) < count
    written = part.read_bytes()
    done = docker(*locked_down(image, clips, results, "--input_path", "/in/list.csv", "--resume"), check=False)
    assert done.returncode == EXIT_SOME_FAILED and f"{count:,} rows, {count // 2:,} errors" in done.stdout
    assert (results / "preds.csv").read_bytes().startswith(written)
    assert len(rows_of(results / "preds.csv")) == count and not part.exists()


def contents(image, *options):
    return set(docker("run", "--rm", "--network", "none", "--entrypoint", "find", image, "/app", "-type", "f",
                      *options).stdout.splitlines())


def test_only_the_package_and_the_model_are_inside(image):
    files = [path.relative_to(ROOT) for path in (ROOT / "kws").rglob("*") if path.is_file()]
    package = {f"/app/{path}" for path in files
               if path.suffix == ".py" or path.name == "py.typed" or path.parts[1] == "pretrained"}
    assert contents(image, "-not", "-name", "*.pyc") == package | {
        "/app/models/kws/config.json", "/app/models/kws/model.onnx", "/app/requirements.txt"}
    assert contents(image, "-name", "gone*") == set()
    code = "import importlib.util; print([n for n in ('torch', 'transformers') if importlib.util.find_spec(n)])"
    heavy = docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", code)
    assert heavy.stdout.strip() == "[]"


@pytest.fixture
def untrained(engine, context, tmp_path):
    """An image of a fresh clone, in which nothing was trained."""
    for name in ("kws", "docker"):
        shutil.copytree(context / name, tmp_path / "clone" / name)
    shutil.copy(context / ".dockerignore", tmp_path / "clone")
    tag = f"kws-test-untrained:{os.getpid()}"
    docker("build", "--network", "host", "-f", tmp_path / "clone/docker/Dockerfile", "-t", tag, tmp_path / "clone")
    yield tag
    docker("image", "rm", "--force", tag)


def test_where_nothing_was_trained_the_shipped_model_answers(untrained, clips, results):
    done = docker(*locked_down(untrained, clips, results, "--input_path", "/in/good"))
    assert "models/kws: no such folder; the shipped model is used" in done.stderr and "13 rows, 0 errors" in done.stdout
    assert {"yes", "no", "up", "down", "left", "right", "stop", "go"} < set(rows_of(results / "preds.csv")[0])
    assert contents(untrained, "-path", "*/models/*") == set()


def test_the_image_is_small_and_nobody_in_it_is_root(image):
    size, user, version, source = docker("image", "inspect", "-f", "{{.Size}} {{.Config.User}} "
                                         '{{index .Config.Labels "org.opencontainers.image.version"}} '
                                         '{{index .Config.Labels "org.opencontainers.image.source"}}',
                                         image).stdout.split()
    assert int(size) <= MAX_BYTES
    assert user == "1000:1000"
    assert (version, source) == (kws.__version__, "https://example.org/kws")


@pytest.mark.parametrize("arguments", [(), ("--help",)], ids=["nothing", "--help"])
def test_the_image_explains_itself(image, arguments):
    shown = docker("run", "--rm", "--network", "none", image, *arguments).stdout
    assert all(text in shown for text in ("usage: kws predict", "--input_path", "exit code: 0"))


def test_the_image_serves_home_assistant(untrained):
    """Locked down further than docker/home-assistant.yaml does it; the model of `untrained` is the shipped one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = yaml.safe_load((ROOT / "docker/home-assistant.yaml").read_text())["services"]["kws"]["entrypoint"]
    container = docker("run", "--detach", "--network", "host", "--read-only", "--cap-drop", "ALL", "--entrypoint",
                       serve[0], untrained, *serve[1:-1], f"tcp://127.0.0.1:{port}", "-v").stdout.strip()
    sound = soundfile.read(ROOT / "docs/samples/stop.flac", dtype="int16")[0]

    async def speak():
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=30) as client:
            for event in (AudioStart(16000, 2, 1), AudioChunk(16000, 2, 1, sound.tobytes()), AudioStop()):
                await client.write_event(event.event())
            return await client.read_event()

    try:
        deadline = time.monotonic() + 60
        while "serving" not in docker("logs", container).stdout and time.monotonic() < deadline:
            time.sleep(0.1)
        assert asyncio.run(speak()).data["name"] == "stop"
        docker("stop", "--time", "60", container)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", container).stdout.strip() == str(EXIT_INTERRUPTED)
        assert ": stop, " in docker("logs", container).stderr
    finally:
        docker("rm", "--force", container)
