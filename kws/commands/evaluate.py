"""Measure a model on a split of the data, or on a manifest.

  kws evaluate models/kws --split testing
  kws evaluate models/kws --manifest clips.csv        columns: path (relative to the CSV), label

Prints a table; writes metrics.json, confusion.csv, confusion.png, curves.png and mistakes.html. Recordings are answered
as `kws predict` answers them. The exit code is 3 if some could not be read.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED, add_config
from kws.data.split import SPLITS, TESTING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", type=Path, help="model folder, for example models/kws")
    add_config(parser, "configs/kws.yaml")
    clips = parser.add_mutually_exclusive_group()
    clips.add_argument("--split", choices=SPLITS, default=TESTING, help=f"split to measure on (default: {TESTING})")
    clips.add_argument("--manifest", type=Path, metavar="CSV", help="table with the columns path and label")
    parser.add_argument("--output", type=Path, default=Path("reports/evaluation"), metavar="DIR",
                        help="folder for the reports, replaced (default: reports/evaluation)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the reports, print the table."""
    import torch

    from kws.config.sections import load_config
    from kws.data.store import load_store
    from kws.evaluation import clips as evaluation
    from kws.inference.spotter import KeywordSpotter
    from kws.model.loading import load_torch_model
    from kws.tracking.results import log_evaluation

    model = load_torch_model(args.model)
    spotter = KeywordSpotter(args.model, runtime="torch")  # of the folder, whose detector hears long recordings
    if args.manifest:
        clips = evaluation.clips_of_manifest(args.manifest, spotter.labels)
    else:
        config = load_config(args.config, args.set)
        store = load_store(config.data.prepared)
        evaluation.check_same_window(store, spotter)
        clips = evaluation.clips_of_split(store, args.split, config.data.silence_ratio, config.data.silence_gain_db,
                                          config.seed)
    result = evaluation.evaluate(spotter, clips)
    with torch.inference_mode():
        evaluation.write_evaluation(result, args.output, f"{args.model} on {args.manifest or args.split}",
                                    lambda window: model.features(
                                        torch.from_numpy(window)[None].to(model.device))[0, 0].cpu().numpy())
    if not args.manifest and args.split == TESTING:
        log_evaluation(config, args.model, result.metrics, args.output)
    print(evaluation.summary_table(result))
    print(f"reports: {args.output}/mistakes.html, metrics.json, confusion.png, curves.png")
    return EXIT_SOME_FAILED if result.errors else EXIT_OK
