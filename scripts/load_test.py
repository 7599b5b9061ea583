#!/usr/bin/env python
"""Ask a running service for answers at given rates and measure them.

usage: python scripts/load_test.py recordings/ [--rates 1 20 50 100 200] [--requests 10000]

Prints percentiles of the response time and the failures by kind; writes load.json and load.png.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Optional, Sequence

from load_client import FIGURES, load_figure, read_recordings, run

from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED, add_verbosity, guard, start_logging
from kws.files.atomic import atomic_file

URL = "http://127.0.0.1:8080/predictions/kws"


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("recordings", type=Path, help="folder, manifest or file; 1,000 of them are sent, in turn")
    parser.add_argument("--url", default=URL, help=f"default: {URL}")
    parser.add_argument("--token", help="inference key, where the service asks for one")
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0], help="requests per second (default: 50)")
    parser.add_argument("--requests", type=int, default=1000, help="to measure at each rate (default: 1000)")
    parser.add_argument("--output", type=Path, default=Path("reports/load"), help="folder (default: reports/load)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print a table, write the reports."""
    args = parse_args(argv)
    start_logging(args.verbose)
    bodies = read_recordings(args.recordings)
    headers = {"Authorization": f"Bearer {args.token}"} if args.token else None
    loads = []
    print(f"  rate/s{FIGURES}  failures")
    for rate in args.rates:
        loads.append(run(args.url, bodies, rate, args.requests, headers=headers))
        print(f"{rate:8.0f}{loads[-1].figures()}  {loads[-1].summary()['failures'] or 'none'}", flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    with atomic_file(args.output / "load.json") as path:
        path.write_text(json.dumps([load.summary() for load in loads], indent=2), encoding="utf-8")
    load_figure(loads).savefig(args.output / "load.png")
    return EXIT_SOME_FAILED if any(load.summary()["failures"] for load in loads) else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
