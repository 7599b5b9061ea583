"""Train a finished model on for running sound; the result is added to its folder.

  kws train-streams configs/kws.yaml -v
  kws train-streams configs/kws.yaml --set 'streams.negatives=[recordings/talk, television.mp3]' -v

Starts from what streams.start_from knows of running sound, where its network is the same, else from training.model.
Words and noise come from the prepared store, talk from streams.negatives, or else from _negative_speech_ in the data
folder. The clip model stays as it is. kws export adds stream.onnx to the folder, and kws evaluate-streams measures it.
With streams.steps=0 there is nothing to do.
"""
from __future__ import annotations

import argparse

from kws.commands.cli import EXIT_OK, add_config, start_logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and say where the model is."""
    from kws.config.sections import load_config
    from kws.training.processes.environment import check_alone

    check_alone("kws train-streams")
    config = load_config(args.config, args.set)
    if config.streams.steps == 0:
        print("streams.steps is 0: not trained for running sound")
        return EXIT_OK
    start_logging(args.verbose, config.training.log_file("streams.log"))
    from kws.training.stream_job import train_for_streams  # after the settings are known to be good: it takes seconds

    folder = train_for_streams(config)
    print(f"{folder}: next, kws export {folder} and kws evaluate-streams --model {folder}")
    return EXIT_OK
