"""Options of the commands that hear sound: from a microphone, recordings or standard input."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterator, Optional, Sequence

from kws.audio.devices import list_microphones
from kws.audio.pipe import CHANNELS, RATES, RawFormat, signed_16_bit
from kws.commands.cli import within
from kws.errors import DataError
from kws.inference.sources import STANDARD_INPUT, SoundSource, microphone_source, recorded_sources


def add_sound_input(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a microphone, and what raw samples are."""
    parser.add_argument("--device", metavar="NAME",
                        help="microphone: a part of its name, or its index (default: the system's)")
    parser.add_argument("--list-devices", action="store_true", help="list the microphones and exit")
    parser.add_argument("--rate", type=within(int, min(RATES), max(RATES)), metavar="HZ",
                        help="standard input is raw samples at this rate: signed 16 bit, little endian")
    parser.add_argument("--channels", type=within(int, min(CHANNELS), max(CHANNELS)), metavar="N",
                        help="number of channels of raw samples (default: 1)")


def print_devices() -> None:
    """List the microphones."""
    print("\n".join(list_microphones()) or "no microphone")


def raw_format(args: argparse.Namespace, recordings: Sequence[Path], command: str) -> Optional[RawFormat]:
    """Return the format of raw standard input, None if it is not raw; refuse options that have no effect.

    Args:
        args: `device`, `rate` and `channels`.
        recordings: files, folders, - for standard input; empty: the microphone is heard.
        command: an example for messages, which hears standard input.
    """
    if recordings and args.device is not None:
        raise DataError("--device chooses a microphone, but recordings are named; leave one of them out",
                        "no_effect")
    if args.rate is not None and STANDARD_INPUT not in recordings or args.channels is not None and args.rate is None:
        raise DataError(f"--rate and --channels describe raw samples from standard input: {command} --rate 16000 "
                        "--channels 1", "no_effect")
    if list(recordings).count(STANDARD_INPUT) > 1:
        raise DataError("standard input can be heard once; found - several times", "no_input")
    return None if args.rate is None else signed_16_bit(args.rate, args.channels or 1)


def chosen_sources(args: argparse.Namespace, recordings: Sequence[Path], sample_rate: int,
                   raw: Optional[RawFormat]) -> Iterator[SoundSource]:
    """List the recordings, or open the microphone; see `recorded_sources` and `microphone_source`."""
    if recordings:
        return recorded_sources(recordings, sample_rate, raw)
    return iter([microphone_source(sample_rate, args.device)])
