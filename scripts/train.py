#!/usr/bin/env python
"""Train a keyword spotter from a prepared store and write its model folder.

usage: python scripts/train.py configs/kws.yaml -v [--set training.epochs=3 ...] [--resume]

Several GPUs or processes: torchrun --nproc-per-node 2 scripts/train.py configs/kws.yaml
"""
from __future__ import annotations

import argparse
import logging
from typing import Optional, Sequence

from kws.cli import EXIT_OK, add_config, add_verbosity, guard, logger, start_logging
from kws.config import load_config
from kws.distributed import processes


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    add_config(parser)
    parser.add_argument("--resume", action="store_true",
                        help="continue an interrupted training from its last finished epoch")
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Train, and print what came out."""
    args = parse_args(argv)
    config = load_config(args.config, args.set)
    is_first = processes().is_first  # of those that torchrun started: it speaks and writes for all
    if is_first:
        start_logging(args.verbose, config.training.checkpoints.with_suffix(".log"))
    else:
        start_logging(0)
        logger.setLevel(logging.ERROR)
    from kws.tracking import build_tracker  # after the arguments are known to be good: importing it takes seconds
    from kws.training import train

    with build_tracker(config) as tracker:
        result = train(config, args.resume, tracker)
        tracker.finish(result.figures)
    if not is_first:
        return EXIT_OK
    print(f"{result.model}: {result.num_parameters:,} parameters, {result.epochs} epochs, "
          f"{result.clips_per_second:.0f} clips/s; validation accuracy {result.validation['accuracy']:.2%}, "
          f"macro-F1 {result.validation['macro_f1']:.2%}, "
          f"{result.validation['keyword_recall']:.2%} of the keywords found")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
