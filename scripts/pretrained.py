#!/usr/bin/env python
"""Make the model that ships with the repository again, of real recordings.

usage: python scripts/pretrained.py data-real kws/pretrained/kws-8 [--negatives talk ...]

Checks the recordings, trains three teachers that differ by their seed, then the model that learns from them as well as
from the labels; exports it, quantized too, and puts it in the place of the one that ships. It takes some 40 minutes on
two cores. With recordings in which no keyword is said it is trained on for running sound, beside a larger network that
teaches it and takes the second look: 9 minutes on a GPU with 16 cores beside it, half a day without. What ships for
running sound went on from there, with sound that is not in the repository (docs/experiments.md). Each step is a script
of this folder; the first one that fails ends it.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional, Sequence

from kws.commands.cli import EXIT_OK, guard

CONFIG = "configs/real.yaml"
MODEL = "models/real"
TEACHER_SEEDS = (0, 1, 2)
TEACHER_EPOCHS = 30
STREAMS = ("second_look=configs/arch/large.yaml", "steps=5600", "batch_size=128", "learning_rate=0.002",
           "smoothing_seconds=0.3", "threshold=0.9", "workers=15")


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("recordings", type=Path, help="data folder, for example of kws download v0.02")
    parser.add_argument("destination", type=Path, help="folder of a shipped model, which is replaced")
    parser.add_argument("--negatives", type=Path, nargs="+", default=[], metavar="PATH",
                        help="recordings or folders of talk without a keyword: hours, of any language")
    return parser.parse_args(argv)


def steps(recordings: Path, destination: Path, negatives: Sequence[Path]) -> list[list[str]]:
    """List the steps: the name of a script, then its arguments."""
    def train(*settings: str) -> list[str]:
        return ["train", CONFIG, *_overrides(f"data.root={recordings}", *settings), "-v"]

    teachers = [f"models/teacher-{seed}" for seed in TEACHER_SEEDS]
    return [["prepare", CONFIG, "--set", f"data.root={recordings}", "-v"],
            *(train(f"seed={seed}", f"training.epochs={TEACHER_EPOCHS}", f"training.model={teacher}",
                    f"training.checkpoints=runs/teacher-{seed}")
              for seed, teacher in zip(TEACHER_SEEDS, teachers)),
            train(f"training.teachers=[{','.join(teachers)}]"),
            *([["train_streams", CONFIG, *_overrides(f"streams.negatives={[str(path) for path in negatives]}",
                                                     *(f"streams.{setting}" for setting in STREAMS)), "-v"]]
              if negatives else []),
            ["export", MODEL, "--config", CONFIG, "--int8", "-v"],
            ["publish", MODEL, str(destination)]]


def _overrides(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the steps, and print how long they took."""
    args = parse_args(argv)
    began = time.monotonic()
    for name, *arguments in steps(args.recordings, args.destination, args.negatives):
        done = subprocess.run([sys.executable, str(Path(__file__).parent / f"{name}.py"), *arguments])
        if done.returncode != EXIT_OK:
            return done.returncode
    print(f"{args.destination}: made in {time.monotonic() - began:,.0f} s")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
