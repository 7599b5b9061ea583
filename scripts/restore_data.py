"""Restore data/ as data.dvc describes it: from DVC's cache or remote; the default corpus otherwise by synthesis.

usage: python scripts/restore_data.py [-v]        what is in data/ already stays as it is

The default corpus is the same bytes on every run, so that it needs no remote. Where another processor or another build
of a library makes other bytes, that is said, data.dvc takes note of what was made, and all goes on with that.
"""
from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

from kws.commands.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.config.yaml_files import read_yaml
from kws.corpus.synthesis import synthesize
from kws.errors import DataError
from kws.tracking.provenance import dvc_hash

DATA, VERSION = Path("data"), Path("data.dvc")
DEFAULT_FILES = 10_091  # of the default corpus, on every processor
UNFINISHED = Path(".dvc", "tmp", "restore_data.unfinished")  # there while data/ may hold a part of the recordings


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
    held_some = holds_files()
    if held_some and not UNFINISHED.exists():
        return EXIT_OK
    _, unfetched = dvc("fetch", VERSION)
    UNFINISHED.parent.mkdir(exist_ok=True)
    UNFINISHED.touch()
    is_whole, problem = dvc("checkout", VERSION)
    if is_whole or not holds_files():
        UNFINISHED.unlink()
    if not is_whole and (held_some or version().get("nfiles") != DEFAULT_FILES):
        reason = unfetched or problem or "dvc checkout failed"
        raise DataError(f"{VERSION}: {reason}; expected its recordings in DVC's cache or remote, as only the default "
                        "corpus is synthesized. `dvc remote list` names the remote", "no_data")
    if is_whole:
        print(f"{DATA}: pulled, {version()['md5']}")
    else:
        make_default_corpus()
    return EXIT_OK


def holds_files() -> bool:
    """Whether there is anything in data/."""
    return DATA.is_dir() and any(DATA.iterdir())


def make_default_corpus() -> None:
    """Synthesize the recordings; let data.dvc name them, and say whether they are the ones that it named."""
    expected = version()["md5"]
    synthesize(DATA, overwrite=True)  # of what an incomplete cache may have left there
    UNFINISHED.unlink(missing_ok=True)
    dvc("add", DATA)
    made = dvc_hash(DATA)
    print(f"{DATA}: synthesized, {made}" if made == expected else
          f"{DATA}: synthesized, {made}; other bytes than data.dvc had ({expected}), as another processor or library "
          "makes them: all goes on with these")


def allow_no_git() -> None:
    """Tell DVC to do without Git where there is none, as in a downloaded archive of the code; for this folder only."""
    here = Path.cwd()
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        dvc("config", "--local", "core.no_scm", "true")


def dvc(*arguments: object) -> tuple[bool, str]:
    """Run a DVC command; return whether it succeeded, and its first complaint; "" if it has none."""
    done = subprocess.run([sys.executable, "-m", "dvc", *map(str, arguments)], capture_output=True, text=True)
    told = re.search("(?:ERROR|WARNING): (.+)", done.stderr)
    return done.returncode == 0, told[1] if told else ""


def version() -> dict[str, Any]:
    """What data.dvc says of the recordings: `md5`, `nfiles` and more."""
    return dict(read_yaml(VERSION)["outs"][0])


if __name__ == "__main__":
    raise SystemExit(guard(main))
