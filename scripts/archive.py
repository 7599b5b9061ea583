#!/usr/bin/env python
"""Pack an exported model folder and the code that serves it into an archive for TorchServe.

usage: python scripts/archive.py [models/kws] [--output torchserve/model-store] [--version 1.0]
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional, Sequence

import kws
from kws.commands.cli import EXIT_OK, TRAINED, add_verbosity, chosen_model, guard, start_logging
from kws.errors import ModelError
from kws.model.folder import CONFIG_FILE, ONNX_FILE, STATE_FILE, STREAM_FILE, WEIGHTS_FILE

TORCHSERVE = Path(__file__).resolve().parents[1] / "torchserve"
FILES = (CONFIG_FILE, WEIGHTS_FILE, ONNX_FILE)
LEFT_OUT = shutil.ignore_patterns("pretrained", "__pycache__")  # of the package


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("model", type=Path, nargs="?", help="model folder that kws export has completed "
                        f"(default: {TRAINED}, or the shipped one without it)")
    parser.add_argument("--output", type=Path, default=TORCHSERVE / "model-store",
                        help="folder for kws.mar, which is replaced (default: torchserve/model-store)")
    parser.add_argument("--version", default=kws.__version__, help=f"of the model (default: {kws.__version__})")
    add_verbosity(parser)
    return parser.parse_args(argv)


def archive(model: Path, output: Path, version: str) -> Path:
    """Write kws.mar.

    Raises:
        ModelError: "not_exported" if the model folder lacks a file.
    """
    missing = [name for name in FILES if not (model / name).is_file()]
    if missing:
        raise ModelError(f"{model}: no {', '.join(missing)}; run `kws export {model}`", "not_exported")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as scratch:  # the archiver clears $TMPDIR/kws, whatever it is
        content = Path(scratch) / "content"
        shutil.copytree(Path(kws.__file__).parent, content / "kws", ignore=LEFT_OUT)
        for name in (*FILES, *([STREAM_FILE] if (model / STREAM_FILE).is_file() else [])):  # not every model has one
            shutil.copy(model / name, content)
        subprocess.run(
            [Path(sys.executable).with_name("torch-model-archiver"), "--model-name", "kws", "--version", version,
             "--serialized-file", state_file(model, Path(scratch)), "--handler", TORCHSERVE / "handler.py",
             "--config-file", TORCHSERVE / "model-config.yaml", "--extra-files", content, "--export-path", scratch],
            check=True, env={**os.environ, "TMPDIR": scratch})
        return Path(shutil.move(Path(scratch) / "kws.mar", output / "kws.mar"))


def state_file(model: Path, scratch: Path) -> Path:
    """Return the model.pt of a model folder; make it of model.safetensors where it was left out, as it is shipped."""
    if (model / STATE_FILE).is_file():
        return model / STATE_FILE
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / WEIGHTS_FILE), scratch / STATE_FILE)
    return scratch / STATE_FILE


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Pack, and print what was written."""
    args = parse_args(argv)
    start_logging(args.verbose)
    path = archive(chosen_model(args.model), args.output, args.version)
    print(f"{path}: {path.stat().st_size / 1024:,.0f} kB, version {args.version}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
