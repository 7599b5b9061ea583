#!/usr/bin/env python
"""Replace the bundled model by a trained and exported one.

usage: python scripts/publish.py models/real kws/pretrained/kws-8

Takes what it needs to answer and to be understood, and leaves what can be made of that (model.pt) or tells of the
training only (history.csv). The folder is replaced as a whole, or not at all.
"""
from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Optional, Sequence

from kws.commands.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.errors import ModelError
from kws.files.atomic import atomic_folder, check_replaceable
from kws.model.folder import (CARD_FILE, CONFIG_FILE, INT8_FILE, MODEL_TYPE, ONNX_FILE, SECOND_FILE,
                              STREAM_FILE, STREAM_WEIGHTS_FILE, WEIGHTS_FILE)

FILES = (CARD_FILE, CONFIG_FILE, "preprocessor_config.json", "metrics.json", WEIGHTS_FILE, ONNX_FILE, INT8_FILE)
STREAM_FILES = (STREAM_WEIGHTS_FILE, SECOND_FILE, STREAM_FILE)  # of a model that was trained on for running sound


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("model", type=Path, help="model folder that kws export --int8 has completed")
    parser.add_argument("destination", type=Path, help="folder of a shipped model, which is replaced")
    add_verbosity(parser)
    return parser.parse_args(argv)


def publish(model: Path, destination: Path) -> None:
    """Copy a model folder, with the modules that `trust_remote_code=True` loads.

    Raises:
        ModelError: "not_exported" if the model folder lacks a file.
        FileExistsError: if the destination holds something else.
    """
    missing = [name for name in FILES if not (model / name).is_file()]
    if missing:
        raise ModelError(f"{model}: no {', '.join(missing)}; kws train and kws export --int8 make all "
                         "of it", "not_exported")
    check_replaceable(destination, CONFIG_FILE, MODEL_TYPE, outside=[model])
    with atomic_folder(destination) as folder:
        found = [model / name for name in (*FILES, *STREAM_FILES) if (model / name).is_file()]
        for path in (*found, *model.glob("*.py")):
            shutil.copyfile(path, folder / path.name)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Publish, and print the files."""
    args = parse_args(argv)
    start_logging(args.verbose)
    publish(args.model, args.destination)
    files = sorted(args.destination.iterdir())
    print(f"{args.destination}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1000:,.0f} kB")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
