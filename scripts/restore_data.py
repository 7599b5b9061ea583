"""Restore data/ as data.dvc describes it: from DVC's cache or remote, otherwise by synthesis.

usage: python scripts/restore_data.py [-v]        what is in data/ already stays as it is

The default corpus is the same bytes on every run, so that it needs no remote. Where another processor or another build
of a library makes other bytes, that is said, data.dvc takes note of what was made, and all goes on with that.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Optional, Sequence

from kws.commands.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.config.yaml_files import read_yaml
from kws.corpus.synthesis import synthesize
from kws.tracking.provenance import dvc_hash

DATA, VERSION = Path("data"), Path("data.dvc")


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Restore the recordings, and say where they come from."""
    args = parse_args(argv)
    start_logging(args.verbose)
    allow_no_git()
    if DATA.is_dir() and any(DATA.iterdir()):
        return EXIT_OK
    if dvc("fetch", VERSION) and dvc("checkout", VERSION):
        print(f"{DATA}: pulled, {version_of_data()}")
        return EXIT_OK
    expected = version_of_data()
    synthesize(DATA, overwrite=True)  # of what an incomplete cache may have left there
    dvc("add", DATA)
    made = dvc_hash(DATA)
    print(f"{DATA}: synthesized, {made}" if made == expected else
          f"{DATA}: synthesized, {made}; other bytes than data.dvc had ({expected}), as another processor or library "
          "makes them: all goes on with these")
    return EXIT_OK


def allow_no_git() -> None:
    """Tell DVC to do without Git where there is none, as in a downloaded archive of the code; for this folder only."""
    here = Path.cwd()
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        dvc("config", "--local", "core.no_scm", "true")


def dvc(*arguments: object) -> bool:
    """Run a DVC command quietly; return whether it succeeded."""
    return subprocess.run([sys.executable, "-m", "dvc", *map(str, arguments), "--quiet"],
                          capture_output=True).returncode == 0


def version_of_data() -> str:
    """What data.dvc names the recordings."""
    return str(read_yaml(VERSION)["outs"][0]["md5"])


if __name__ == "__main__":
    raise SystemExit(guard(main))
