"""Which run a folder belongs to: a file beside it, NAME.run.json."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Mapping

from kws.files.atomic import atomic_file


def run_file(folder: Path) -> Path:
    """Beside the folder, not in it: DVC's outputs are to be the same for the same inputs, and no run is."""
    return folder.with_name(f"{folder.name}.run.json")


def write_run(folder: Path, run: Mapping[str, str]) -> None:
    """Note which run a folder belongs to."""
    with atomic_file(run_file(folder)) as path:
        path.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def read_run(folder: Path) -> dict[str, str]:
    """Read which run a folder belongs to; empty if it belongs to none."""
    path = run_file(folder)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
