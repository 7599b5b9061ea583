"""The serving wing on every Python that it promises and that is here: installed, and labelling recordings."""
import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from kws.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.9", "3.10", "3.12", "3.13")  # and the one that runs the tests


def interpreter(version):
    """A working Python of a version: on the PATH, or of pyenv, whose links may lead nowhere."""
    found = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for path in filter(None, found):
        done = subprocess.run([path, "-c", "import sys, venv; print(*sys.version_info[:2], sep='.')"],
                              capture_output=True, text=True)
        if done.stdout.strip() == version:
            return path
    return pytest.skip(f"no Python {version} here")


@pytest.mark.services
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wing_labels_recordings(version, tmp_path, noise, wav_bytes):
    python = tmp_path / "venv/bin/python"
    subprocess.run([interpreter(version), "-m", "venv", tmp_path / "venv"], check=True)
    # What TorchServe's image gets, and what `pip install kws` asks for beyond it.
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
                                ROOT / "torchserve/requirements.txt", "tqdm"], capture_output=True, text=True)
    if installed.returncode and "No matching distribution" not in installed.stderr:
        pytest.skip(f"pip cannot install here: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(8):
        (clips / f"{number}.wav").write_bytes(wav_bytes(noise(number, 0.5 + 0.3 * number)))
    (clips / "bad.wav").write_bytes(b"")
    tables = tmp_path / "here.csv", tmp_path / "there.csv"
    arguments = ["--input_path", str(clips), "--model", str(ROOT / "kws/pretrained/kws-8"), "--output_path"]
    assert main(["predict", *arguments, str(tables[0])]) == 3
    done = subprocess.run([python, "-m", "kws.predict", *arguments, tables[1]], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 3 and "9 rows, 1 errors" in done.stdout, done.stderr
    here, there = (list(csv.DictReader(table.open())) for table in tables)
    for expected, found in zip(here, there):
        assert (found["path"], found["label"], found["error"]) == (expected["path"], expected["label"],
                                                                   expected["error"])
        for name in ("confidence", "yes", "_unknown_", "_silence_"):
            assert found[name] == expected[name] or abs(float(found[name]) - float(expected[name])) < 1e-4
    imported = subprocess.run([python, "-c", "import sys; sys.path.insert(0, 'torchserve'); import handler"], cwd=ROOT,
                              capture_output=True, text=True)
    assert imported.returncode == 0, imported.stderr
