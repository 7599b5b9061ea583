"""Restoring the recordings in a copy of the code that is no Git repository, as a downloaded archive is one."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_dvc_works_without_git(tmp_path):
    copy = tmp_path / "kws-main"
    (copy / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, copy / name)
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
