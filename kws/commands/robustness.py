"""Measure models in noise, in a room, quiet, cut, on unheard words.

  kws robustness models/real models/other --config configs/real.yaml --left-out happy

Prints a row for each model: accuracy on the clips of a split as they are, in the split's background noise at several
levels, in a reverberant room, 30 dB quieter, cut at both ends, and the share of refused clips of each word left out of
training (data.left_out).
"""
from __future__ import annotations

import argparse
from pathlib import Path

from kws.commands.cli import EXIT_OK, add_config
from kws.data.split import SPLITS, VALIDATION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("models", type=Path, nargs="+", help="model folders, for example models/real")
    add_config(parser, "configs/real.yaml")
    parser.add_argument("--split", choices=SPLITS, default=VALIDATION,
                        help=f"split to measure on (default: {VALIDATION})")
    parser.add_argument("--left-out", nargs="*", default=[], metavar="WORD",
                        help="words left out of training: all their clips, of every split, should be refused")


def run(args: argparse.Namespace) -> int:
    """Measure every model and print the table."""
    import pandas as pd

    from kws.config.sections import load_config
    from kws.data.store import load_store
    from kws.evaluation.robustness import measure
    from kws.inference.spotter import KeywordSpotter

    config = load_config(args.config, args.set)
    store = load_store(config.data.prepared)
    rows = {str(model): measure(KeywordSpotter(model), store, config, args.split, args.left_out)
            for model in args.models}
    print(pd.DataFrame(rows).T.to_string(float_format="%.2f"))
    return EXIT_OK
