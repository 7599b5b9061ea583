"""Add model.onnx, which runs without PyTorch, and model.pt for TorchServe.

  kws export models/kws
  kws export models/real --config configs/real.yaml --int8

The files are written only if ONNX Runtime and PyTorch agree on generated clips and on the validation clips of the
prepared store. --int8 adds model.int8.onnx, calibrated on training clips, if it costs at most 0.3 points of
validation accuracy. A tracked model is registered, and promoted if it is better than the champion.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from kws.commands.cli import EXIT_OK, add_config, logger
from kws.errors import DataError

DEFAULT = Path("configs/kws.yaml")

if TYPE_CHECKING:
    from kws.config.sections import Config
    from kws.data.store import PreparedStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", type=Path, help="model folder, for example models/kws")
    add_config(parser, str(DEFAULT))
    parser.set_defaults(config=None)  # a file that is named must be there, the default one need not
    parser.add_argument("--int8", action="store_true", help="also write a quantized model")


def run(args: argparse.Namespace) -> int:
    """Export, and print what was written."""
    from kws.config.sections import load_config

    config: Optional[Config] = None
    if args.config or args.set or args.int8 or DEFAULT.exists():
        config = load_config(args.config or DEFAULT, args.set)
    else:
        logger.warning("%s: no such file; the export is compared on generated clips only, and not recorded", DEFAULT)
    export_model(args.model, config, args.int8)
    return EXIT_OK


def export_model(folder: Path, config: Optional[Config], int8: bool = False, name: Optional[Path] = None) -> None:
    """Export a model folder, compare on the validation clips of the prepared store, and print what was written.

    Args:
        folder: of the model.
        config: names the prepared store, and where runs are recorded; None: neither is there.
        int8: whether to quantize too.
        name: of the folder, as printed, if it is to be renamed.
    """
    from kws.data.split import TRAINING, VALIDATION
    from kws.export.to_onnx import export  # after the settings are known to be good: it takes seconds
    from kws.tracking.results import log_export

    store = prepared_store(config.data.prepared, int8) if config else None
    if int8 and config and store is not None:
        check_clips(store, config.data.prepared, folder)
    clips, targets = (np.empty((0, 0), np.int16), np.empty(0, np.int64)) if store is None else \
        clips_of(store, VALIDATION)
    result = export(folder, clips)
    print(f"{(name or folder) / result.path.name}: {result.path.stat().st_size / 1024:,.0f} kB; logits within "
          f"{result.difference:.1g} of PyTorch's on {result.clips:,} clips")
    if int8 and store is not None:
        from kws.export.quantize import quantize

        for measured in quantize(folder, clips_of(store, TRAINING)[0], clips, targets):
            print(f"{measured.path}: {measured.num_bytes / 1024:,.0f} kB, validation accuracy {measured.accuracy:.2%}, "
                  f"{measured.clips_per_second:,.0f} clips/s on one thread")
    if config:
        log_export(config, folder)


def prepared_store(folder: Path, required: bool) -> Optional[PreparedStore]:
    """Return the prepared store, or None where there is none and none is required."""
    from kws.data.store import load_store

    try:
        return load_store(folder)
    except DataError as error:
        if required or error.code != "no_store":
            raise
        logger.warning("%s: no prepared store there; the export is compared on generated clips only", folder)
        return None


def check_clips(store: PreparedStore, place: Path, model: Path) -> None:
    """Refuse a store on which a model cannot be quantized: labelled for another one, or without clips for it.

    Raises:
        DataError: "other_labels", "no_clips".
    """
    from kws.data.split import TRAINING, VALIDATION
    from kws.model.loading import labels_of, load_torch_model

    labels, counts = labels_of(load_torch_model(model)), store.manifest["split"].value_counts().to_dict()
    if store.labels != labels:
        raise DataError(f"{place}: clips labelled {', '.join(store.labels)}; expected the labels of {model}, "
                        f"{', '.join(labels)}. Give the configuration that it was trained with", "other_labels")
    if TRAINING not in counts or VALIDATION not in counts:
        raise DataError(f"{place}: holds {counts}; --int8 needs clips in {TRAINING}, to calibrate on, and in "
                        f"{VALIDATION}, to judge by. Prepare with data.validation_percent above 0", "no_clips")


def clips_of(store: PreparedStore, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the clips of a split, [N, T] int16, and [N] label indices."""
    rows = store.manifest.index[store.manifest["split"] == split]
    return store.waveforms[rows], np.array([store.labels.index(label) for label in store.manifest["label"][rows]])
