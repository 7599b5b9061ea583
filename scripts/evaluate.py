#!/usr/bin/env python
"""Measure a model on a split of the prepared store, or on the clips of a manifest.

usage: python scripts/evaluate.py models/kws [--config configs/kws.yaml] [--split testing] [-v]
       python scripts/evaluate.py models/kws --manifest clips.csv        columns: path (relative to the CSV), label

Prints a table; writes metrics.json, confusion.csv, confusion.png, curves.png and mistakes.html.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

from kws.cli import EXIT_OK, add_config, add_verbosity, guard, start_logging
from kws.config import load_config
from kws.data.split import SPLITS, TESTING


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("model", type=Path, help="model folder, for example models/kws")
    add_config(parser, "configs/kws.yaml")
    clips = parser.add_mutually_exclusive_group()
    clips.add_argument("--split", choices=SPLITS, default=TESTING)
    clips.add_argument("--manifest", type=Path, help="CSV with the columns path and label")
    parser.add_argument("--output", type=Path, default=Path("reports/evaluation"),
                        help="folder for the reports, replaced (default: reports/evaluation)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Evaluate, write the reports, print the table."""
    args = parse_args(argv)
    start_logging(args.verbose)
    import torch  # after the arguments are known to be good: these imports take seconds

    from kws import evaluation
    from kws.data.store import load_store
    from kws.inference import KeywordSpotter
    from kws.runtime import TorchRuntime, load_torch_model
    from kws.tracking import log_evaluation

    model = load_torch_model(args.model)
    spotter = KeywordSpotter(TorchRuntime(model))
    if args.manifest:
        clips = evaluation.clips_of_manifest(args.manifest, spotter.labels)
    else:
        config = load_config(args.config, args.set)
        clips = evaluation.clips_of_split(load_store(config.data.prepared), args.split, config.data.silence_ratio,
                                          config.data.silence_gain_db, config.seed)
    result = evaluation.evaluate(spotter, clips)
    with torch.inference_mode():
        evaluation.write_evaluation(result, args.output, f"{args.model} on {args.manifest or args.split}",
                                    lambda window: model.features(
                                        torch.from_numpy(window)[None].to(model.device))[0, 0].cpu().numpy())
    if not args.manifest and args.split == TESTING:
        log_evaluation(config, args.model, result.metrics, args.output)
    print(evaluation.summary_table(result))
    print(f"reports: {args.output}/mistakes.html, metrics.json, confusion.png, curves.png")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
