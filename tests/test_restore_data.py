"""Restoring the recordings in a copy of the code that is no Git repository, as a downloaded archive is one."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    copy = tmp_path / "kws-main"
    (copy / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def test_dvc_works_without_git(copy):
    (copy / "data" / "yes").mkdir(parents=True)
    (copy / "data" / "yes" / "a.wav").touch()
    (copy / "dvc.yaml").write_text("stages:\n  count:\n    cmd: ls data > count.txt\n    deps: [data]\n"
                                   "    outs: [count.txt]\n")
    refused = run(copy, "-m", "dvc", "repro")
    assert refused.returncode and "not a git repository" in refused.stderr
    restored = run(copy, str(ROOT / "scripts/restore_data.py"))
    assert restored.returncode == 0, restored.stderr
    done = run(copy, "-m", "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert (copy / "count.txt").read_text() == "yes\n"


def test_recordings_that_cannot_be_had_are_not_replaced_by_others_and_half_of_them_is_completed(copy):
    (copy / "data/yes").mkdir(parents=True)
    for number in range(5):
        (copy / f"data/yes/{number}.wav").write_text(str(number))
    restore = [str(ROOT / "scripts/restore_data.py")]
    assert run(copy, *restore).returncode == 0  # so that DVC needs no Git here
    assert run(copy, "-m", "dvc", "add", "data").returncode == 0
    version = (copy / "data.dvc").read_text()
    shutil.rmtree(copy / "data")
    one = next(path for path in (copy / ".dvc/cache").rglob("*") if path.is_file() and path.read_text() == "3")
    one.rename(copy / "lost")
    refused = run(copy, *restore)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "data.dvc: Some of the cache files do not exist" in refused.stderr
    assert (copy / "data.dvc").read_text() == version and len(list(copy.glob("data/yes/*"))) < 5
    (copy / "lost").rename(one)
    restored = run(copy, *restore)
    assert restored.returncode == 0 and "data: pulled" in restored.stdout, restored.stderr
    assert {path.read_text() for path in copy.glob("data/yes/*")} == set("01234")
    assert run(copy, *restore).stdout == ""


def test_recordings_that_somebody_put_there_after_a_failure_stay(copy):
    (copy / "data.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  nfiles: 5\n  path: data\n"
                                   "  hash: md5\n")
    restore = [str(ROOT / "scripts/restore_data.py")]
    assert run(copy, *restore).returncode == 2
    (copy / "data/yes").mkdir(parents=True)
    (copy / "data/yes/mine.wav").write_text("mine")
    again = run(copy, *restore)
    assert (again.returncode, again.stderr) == (0, "") and (copy / "data/yes/mine.wav").read_text() == "mine"
