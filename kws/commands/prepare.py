"""Check recordings and write the prepared store that training reads.

  kws prepare configs/kws.yaml -v
  kws prepare configs/kws.yaml --set data.root=my-recordings --set 'data.keywords=["lights", "fan"]'

Writes data.html and data.json, which show what the recordings are and what is wrong with them.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path

from kws.commands.cli import EXIT_OK, add_config

SETTINGS = {"keywords", "sample_rate", "clip_seconds", "min_seconds", "max_seconds", "speaker_pattern", "split_by",
            "validation_percent", "testing_percent"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_config(parser)
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="gets data.json and data.html")


def run(args: argparse.Namespace) -> int:
    """Prepare, write the report, print the counts."""
    import torch

    from kws.config.sections import load_config
    from kws.data.prepare import RejectedData, prepare
    from kws.data.store import load_store
    from kws.model.features import LogMel
    from kws.reports.recordings import summary_text, write_summary

    config = load_config(args.config, args.set)
    data, started = config.data, time.perf_counter()
    try:
        report = prepare(data.root, data.prepared, require_noise=data.silence_ratio > 0,
                         listing=str(args.reports / "data.json"), **data.model_dump(include=SETTINGS))
    except RejectedData as error:
        write_summary(error.report, args.reports)
        raise
    speed = len(report.clips) / (time.perf_counter() - started)
    log_mel = LogMel(sample_rate=data.sample_rate, **config.features.model_dump())
    write_summary(report, args.reports, load_store(data.prepared),
                  lambda waveform: log_mel(torch.from_numpy(waveform)[None])[0, 0].numpy())
    print(summary_text(report))
    print(f"{data.prepared}: {speed:,.0f} files/s, {len(report.problems):,} warnings; see {args.reports}/data.html")
    return EXIT_OK
