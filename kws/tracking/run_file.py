"""Which run a folder belongs to: a file beside it, NAME.run.json."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Mapping

from kws.errors import TrackingError, first_line
from kws.files.atomic import atomic_file


def run_file(folder: Path) -> Path:
    """Beside the folder, not in it: DVC's outputs are to be the same for the same inputs, and no run is."""
    return folder.with_name(f"{folder.name}.run.json")


def write_run(folder: Path, run: Mapping[str, str]) -> None:
    """Note which run a folder belongs to."""
    with atomic_file(run_file(folder)) as path:
        path.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def read_run(folder: Path) -> dict[str, str]:
    """Read which run a folder belongs to; empty if it belongs to none.

    Raises:
        TrackingError: if the file cannot be read.
    """
    path = run_file(folder)
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise TrackingError(f"{path}: cannot be read ({first_line(error)}); remove it, and {folder} belongs to no "
                            "run", "bad_run_file") from error
