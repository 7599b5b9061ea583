"""Train a model on prepared recordings.

  kws train configs/kws.yaml -v
  kws train configs/kws.yaml --set training.epochs=3
  kws train configs/kws.yaml --resume

Several GPUs or processes: torchrun --nproc-per-node 2 -m kws train configs/kws.yaml
"""
from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from kws.commands.cli import EXIT_OK, add_config, logger, start_logging
from kws.errors import ConfigError

if TYPE_CHECKING:
    from kws.config.sections import Config
    from kws.training.processes.peers import Peers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_config(parser)
    parser.add_argument("--resume", action="store_true",
                        help="continue an interrupted training from its last finished epoch")


def run(args: argparse.Namespace) -> int:
    """Train, and print what came out."""
    from kws.training.processes.peers import joined

    with joined() as peers:
        return _run(args, peers)


def _run(args: argparse.Namespace, peers: Peers) -> int:
    from kws.config.sections import load_config

    config = load_config(args.config, args.set)
    is_first = peers.group.is_first  # it speaks and writes for all
    if is_first:
        start_logging(args.verbose, config.training.log_file())
    else:
        start_logging(0)
        logger.setLevel(logging.ERROR)
    if config.training.trains == "classifier":
        print(_taught(config, args.resume))
        return EXIT_OK
    from kws.tracking.tracker import build_tracker  # after the settings are known to be good: it takes seconds
    from kws.training.trainer import train

    with build_tracker(config, is_first) as tracker:
        result = train(config, args.resume, tracker, peers)
        tracker.finish(result.figures)
    if is_first:
        print(f"{result.model}: {result.num_parameters:,} parameters, {result.epochs} epochs, "
              f"{result.clips_per_second:.0f} clips/s; validation accuracy {result.validation['accuracy']:.2%}, "
              f"macro-F1 {result.validation['macro_f1']:.2%}, "
              f"{result.validation['keyword_recall']:.2%} of the keywords found")
    return EXIT_OK


def _taught(config: Config, resume: bool) -> str:
    """Train a classifier on a body that knows speech; say how sure it is."""
    if resume:
        raise ConfigError("--resume", ["has no effect on training.trains=classifier, which takes seconds; leave it "
                                       "out"])
    from kws.training.processes.environment import check_alone

    check_alone("training.trains=classifier")
    from kws.tracking.tracker import build_tracker  # after the settings are known to be good: it takes seconds
    from kws.training.own_words import summary_text
    from kws.training.teach_job import teach

    with build_tracker(config) as tracker:
        own = teach(config, tracker)
        tracker.finish(own.figures)
    return summary_text(own)
