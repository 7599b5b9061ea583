"""Check the recordings and write the prepared store: python scripts/prepare.py configs/kws.yaml."""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Optional, Sequence

import torch

from kws.cli import EXIT_OK, add_config, add_verbosity, guard, start_logging
from kws.config import load_config
from kws.data.prepare import RejectedData, prepare
from kws.data.store import load_store
from kws.data.summary import summary_text, write_summary
from kws.features import LogMel

SETTINGS = {"keywords", "sample_rate", "clip_seconds", "min_seconds", "max_seconds", "speaker_pattern", "split_by",
            "validation_percent", "testing_percent"}


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="gets data.json and data.html")
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse_args(argv)
    start_logging(args.verbose)
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


if __name__ == "__main__":
    raise SystemExit(guard(main))
