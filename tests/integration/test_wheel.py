"""The package as a user gets it: a wheel, installed outside the repository for every Python that is here."""
from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import kws
from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_SOME_FAILED
from kws.corpus import synthesis

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 3 * 10**6
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")  # 3.9 for TorchServe's image
OLDEST = ("-r", str(ROOT / "pyproject.toml"), "--resolution", "lowest-direct")  # of every dependency
UNREACHABLE = ("error sending request", "Failed to fetch", "dns error")
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command, check=True, cwd=None):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, cwd=cwd, env=CLEAN)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def interpreter(version):
    """A working Python of a version: on the PATH, or of pyenv, whose links may lead nowhere."""
    found = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for path in filter(None, found):
        done = run(path, "-c", "import sys; print(*sys.version_info[:2], sep='.')", check=False)
        if done.stdout.strip() == version:
            return path
    return pytest.skip(f"no Python {version} here")


def install(python, *what):
    done = run(sys.executable, "-m", "uv", "pip", "install", "--python", python, *what, check=False)
    if any(text in done.stderr for text in UNREACHABLE):
        pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A folder with `yes` in a clear voice, and something that is no recording."""
    folder = tmp_path_factory.mktemp("spoken")
    synthesis.synthesize(folder / "corpus", ["yes"], [], 1, 1, speakers=1)
    shutil.copy(next((folder / "corpus/yes").iterdir()), folder / "a.wav")
    shutil.rmtree(folder / "corpus")
    (folder / "bad.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module", params=[(version, ()) for version in VERSIONS] + [("3.9", OLDEST)],
                ids=[*VERSIONS, "3.9 and the oldest dependencies"])
def python(request, built, tmp_path_factory):
    """A Python of an environment that holds the wheel, and what it asks for."""
    version, dependencies = request.param
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "uv", "venv", "--python", interpreter(version), folder / "venv")
    if dependencies:
        install(folder / "venv/bin/python", *dependencies)
    install(folder / "venv/bin/python", built[1])
    return folder / "venv/bin/python"


def test_what_ships_is_the_package_and_nothing_else(built):
    sdist, wheel = built
    assert wheel.stat().st_size <= MAX_BYTES
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    package = {f"kws/{path.relative_to(ROOT / 'kws')}" for path in (ROOT / "kws").rglob("*")
               if path.is_file() and "__pycache__" not in path.parts}
    info = {f"kws-{kws.__version__}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt",
                                                                   "licenses/LICENSE")}
    assert set(zipfile.ZipFile(wheel).namelist()) == package | info
    assert {name.partition("/")[2] for name in tarfile.open(sdist).getnames()} == package | {
        "LICENSE", "README.md", "pyproject.toml", "PKG-INFO"}


def test_the_package_answers_at_once(python, spoken, tmp_path):
    command = python.with_name("kws")
    assert run(command, "--version").stdout == f"kws {kws.__version__}\n"
    shown = run(command, "predict", "a.wav", cwd=spoken).stdout
    assert shown.split()[0] == "yes" and shown.endswith("%  a.wav\n")
    code = "import kws, sys; print(kws.KeywordSpotter()(sys.argv[1]).label, kws.__file__)"
    label, path = run(python, "-c", code, spoken / "a.wav", cwd=tmp_path).stdout.split()
    assert label == "yes" and Path(path).is_relative_to(python.parents[1])


def test_the_table_is_the_same_on_every_python(python, spoken, tmp_path):
    arguments = ["--input_path", str(spoken), "--output_path"]
    assert main(["predict", *arguments, str(tmp_path / "here.csv"), "--model", str(
        ROOT / "kws/pretrained/kws-8")]) == EXIT_SOME_FAILED
    done = run(python, "-m", "kws.predict", *arguments, tmp_path / "there.csv", check=False, cwd=tmp_path)
    assert done.returncode == EXIT_SOME_FAILED and "2 rows, 1 errors" in done.stdout, done.stderr
    here, there = (list(csv.DictReader((tmp_path / name).open())) for name in ("here.csv", "there.csv"))
    for expected, found in zip(here, there):
        assert {name: found[name] for name in ("path", "label", "error")} == {
            name: expected[name] for name in ("path", "label", "error")}
        for name in ("confidence", "yes", "_unknown_", "_silence_"):
            assert found[name] == expected[name] or abs(float(found[name]) - float(expected[name])) < 1e-4


@pytest.mark.parametrize("arguments", [["train", "x.yaml"], ["evaluate", "models/kws"], ["download", "v0.02"]],
                         ids=lambda arguments: arguments[0])
def test_what_training_needs_is_named_in_a_line(python, arguments, tmp_path):
    done = run(python.with_name("kws"), *arguments, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (EXIT_BAD_INPUT, "", 1), done.stderr
    assert "pip install 'kws[train]'" in done.stderr


def test_the_handler_works_with_what_its_image_installs(python, spoken):
    install(python, "-r", ROOT / "torchserve/requirements.txt")
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import handler, kws; "
            "print(kws.KeywordSpotter()(sys.argv[2]).label)")
    assert run(python, "-c", code, ROOT / "torchserve", spoken / "a.wav", cwd=python.parent).stdout == "yes\n"
