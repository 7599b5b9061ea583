"""Provenance of a result: commit, DVC versions, machine."""
from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator, Optional

from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.base import FileSystem
from dvc_objects.fs.local import LocalFileSystem

from kws.inference.cores import available_cores


def git_tags() -> dict[str, str]:
    """`git_commit` and `git_dirty` ("true" if a tracked file differs from it); empty outside of a Git repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": "true" if changes else "false"}


def _git(*arguments: str) -> Optional[str]:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


class _RegularFiles:
    """Leaves out of a folder's md5 what has no bytes to hash: links to nothing, and pipes, which would block."""

    def find(self, fs: FileSystem, path: str) -> Iterator[str]:
        return filter(os.path.isfile, fs.find(path))

    def walk(self, fs: FileSystem, path: str, **kwargs: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for root, folders, names in fs.walk(path, **kwargs):
            yield root, folders, [name for name in names if os.path.isfile(os.path.join(root, name))]


def dvc_hash(path: Path) -> Optional[str]:
    """The md5 that DVC gives a file or folder, as in dvc.lock and *.dvc; None if nothing is there."""
    if not path.exists():
        return None
    files = LocalFileSystem()
    with tempfile.TemporaryDirectory() as nowhere:  # a store that nothing is written to
        _, _, found = build(HashFileDB(files, nowhere), str(path.resolve()), files, "md5", dry_run=True,
                            ignore=_RegularFiles())
    return str(found.hash_info.value)


def machine() -> str:
    """Processor architecture, cores and system in a few words; no names of people or hosts."""
    return f"{platform.machine()}, {available_cores()} cores, {platform.system()}, Python {platform.python_version()}"
