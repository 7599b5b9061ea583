"""Check the recordings and write the prepared store: python scripts/prepare.py configs/kws.yaml."""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

import numpy as np
import torch

from kws.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.config import Config, load_config
from kws.data.prepare import RejectedData, prepare
from kws.data.store import load_store
from kws.data.summary import summary_text, write_summary
from kws.features import LogMel


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="for example configs/kws.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                        help="change a key of the configuration, for example data.root=my-recordings")
    parser.add_argument("--reports", type=Path, default=Path("reports"),
                        help="gets data.json and data.html (default: reports)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def front_end(config: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Build the model's front end for one clip: [T] -> [M, F]."""
    log_mel = LogMel(sample_rate=config.data.sample_rate, **config.features.model_dump())
    return lambda waveform: log_mel(torch.from_numpy(waveform)[None])[0, 0].numpy()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse_args(argv)
    start_logging(args.verbose)
    config = load_config(args.config, args.overrides)
    settings = config.data
    started = time.perf_counter()
    try:
        report = prepare(
            settings.root, settings.prepared, require_noise=settings.silence_ratio > 0,
            listing=str(args.reports / "data.json"),
            **settings.model_dump(include={"keywords", "sample_rate", "clip_seconds", "min_seconds", "max_seconds",
                                           "validation_percent", "testing_percent"}))
    except RejectedData as error:
        write_summary(error.report, args.reports)
        raise
    seconds = time.perf_counter() - started
    write_summary(report, args.reports, load_store(settings.prepared), front_end(config))
    print(summary_text(report))
    print(f"{settings.prepared}: {len(report.clips) / seconds:,.0f} files/s; {len(report.problems):,} warnings, "
          f"see {args.reports / 'data.html'}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
