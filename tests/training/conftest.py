"""Tests of training write to the model that they are given."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def exported(exported: Path, tmp_path: Path) -> Path:
    """A copy of the small exported model, for one test."""
    return Path(shutil.copytree(exported, tmp_path / "exported"))
