#!/usr/bin/env python
"""Show that the tests can fail: plant bugs, one at a time, in a temporary copy and check that tests fail.

usage: python scripts/ci_selfcheck.py
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Bug:
    """A wrong line: `right` in `module` becomes `wrong`; `tests` should notice."""

    module: str
    right: str
    wrong: str
    tests: str


BUGS = (
    Bug("kws/inference/decision.py", "confidences.max(axis=1) < threshold", "confidences.max(axis=1) > threshold",
        "tests/inference/test_decision.py"),
    Bug("kws/model/window.py", "start = surplus // 2", "start = 0", "tests/model/test_window.py"),
    Bug("kws/model/features.py", "power=2.0", "power=1.0", "tests/model/test_features.py"),
    Bug("kws/model/streaming.py", "silence = delay + max", "silence = 0 * max", "tests/model/test_streaming.py"),
    Bug("kws/data/noise_bank.py", "-snr_db / 20", "snr_db / 20", "tests/training/test_augment.py"),
    Bug("kws/model/labels.py", "(*keywords, UNKNOWN, SILENCE)", "(*sorted(keywords), UNKNOWN, SILENCE)",
        "tests/model/test_labels.py"),
    Bug("kws/__main__.py", "if close else", "if not close else", "tests/test_main.py"),
    Bug("pyproject.toml", '"onnx>=1.18", ', "", "tests/test_package.py"),
)


def is_green(copy: Path, tests: str) -> bool:
    """Run some tests of the copy, against the copy's own package."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True).returncode == 0


def main() -> int:
    """Check every bug; return 1 if the tests are red without one, or green with one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        keep_out = shutil.ignore_patterns(".git", ".venv", ".dvc", "data", "prepared", "models", "runs", "reports",
                                          "downloads", "mlruns")
        shutil.copytree(_ROOT, copy, ignore=lambda path, names: keep_out(path, names) if Path(path) == _ROOT else set())
        missed = 0
        for bug in BUGS:
            module = copy / bug.module
            healthy = module.read_text(encoding="utf-8")
            assert healthy.count(bug.right) == 1, f"{bug.module} no longer holds {bug.right!r} once"
            before = is_green(copy, bug.tests)
            module.write_text(healthy.replace(bug.right, bug.wrong), encoding="utf-8")
            caught = before and not is_green(copy, bug.tests)
            module.write_text(healthy, encoding="utf-8")
            missed += not caught
            print(f"{'caught' if caught else 'MISSED'}  {bug.module}: {bug.right} -> {bug.wrong}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
