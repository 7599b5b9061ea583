"""Check recordings and write the prepared store that training reads.

  kws prepare configs/kws.yaml -v
  kws prepare configs/kws.yaml --set data.root=my-recordings --set 'data.keywords=["lights", "fan"]'

Writes data.html and data.json, which show what the recordings are and what is wrong with them.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.cli import EXIT_OK, add_config

if TYPE_CHECKING:
    from kws.config.sections import Config

SETTINGS = {"keywords", "sample_rate", "clip_seconds", "min_seconds", "max_seconds", "speaker_pattern", "split_by",
            "validation_percent", "testing_percent"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_config(parser)
    parser.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR",
                        help="folder for data.json and data.html (default: reports)")


def run(args: argparse.Namespace) -> int:
    """Prepare, write the report, print the counts."""
    from kws.config.sections import load_config

    prepare_recordings(load_config(args.config, args.set), args.reports)
    return EXIT_OK


def prepare_recordings(config: Config, reports: Path) -> None:
    """Prepare as configured, write the report into a folder, print the counts."""
    import torch

    from kws.data.prepare import RejectedData, prepare
    from kws.data.store import load_store
    from kws.model.features import LogMel
    from kws.evaluation.reports.recordings import summary_text, write_summary

    data, started = config.data, time.perf_counter()
    is_anew = config.training.trains == "network"  # a body knows other words and silence already
    try:
        report = prepare(data.root, data.prepared, require_noise=is_anew and data.silence_ratio > 0,
                         is_anew=is_anew, listing=str(reports / "data.json"),
                         **data.model_dump(include=SETTINGS))
    except RejectedData as error:
        write_summary(error.report, reports)
        raise
    speed = len(report.clips) / (time.perf_counter() - started)
    log_mel = LogMel(sample_rate=data.sample_rate, **config.features.model_dump())
    write_summary(report, reports, load_store(data.prepared),
                  lambda waveform: log_mel(torch.from_numpy(waveform)[None])[0, 0].numpy())
    print(summary_text(report))
    print(f"{data.prepared}: {speed:,.0f} files/s, {len(report.problems):,} warnings; see {reports}/data.html")
