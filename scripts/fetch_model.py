#!/usr/bin/env python
"""Download a registered model to a folder, to build the image or the archive around it.

usage: python scripts/fetch_model.py models:/kws@champion models/registered [--config configs/kws.yaml]
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

from kws.commands.cli import EXIT_OK, add_config, add_verbosity, guard, start_logging
from kws.config.sections import load_config


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("model", help="models:/NAME@champion or models:/NAME/VERSION")
    parser.add_argument("folder", type=Path, help="for the model, replaced")
    add_config(parser, "configs/kws.yaml", "where models are registered")
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Download, and print where the model lies."""
    args = parse_args(argv)
    start_logging(args.verbose)
    config = load_config(args.config, args.set)
    from kws.tracking.results import \
        download_model  # after the arguments are known to be good: importing it takes seconds

    download_model(config, args.model, args.folder)
    print(f"{args.folder}: {args.model}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
