"""Options of the commands that hear sound as it comes: microphone, recordings, standard input."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterator, Optional, Sequence

from kws.audio.microphone import list_microphones
from kws.audio.pipe import CHANNELS, RATES, RawFormat, signed_16_bit
from kws.commands.cli import between
from kws.errors import DataError
from kws.inference.sources import STANDARD_INPUT, SoundSource, microphone_source, recorded_sources


def add_sound_input(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a microphone, and what raw samples are."""
    parser.add_argument("--device", metavar="NAME",
                        help="microphone: a part of its name, or its index (default: the system's)")
    parser.add_argument("--list-devices", action="store_true", help="list the microphones and end")
    parser.add_argument("--rate", type=rate, metavar="HZ",
                        help="standard input is raw samples of this rate, signed 16 bit, little endian")
    parser.add_argument("--channels", type=channels, metavar="N", help="of raw samples (default: 1)")


def rate(text: str) -> int:
    """Read a sampling rate from the command line; argparse puts the name of this function into its message."""
    return between(text, RATES)


def channels(text: str) -> int:
    """Read a number of channels, likewise."""
    return between(text, CHANNELS)


def print_devices() -> None:
    """List the microphones."""
    print("\n".join(list_microphones()) or "no microphone")


def raw_format(args: argparse.Namespace, recordings: Sequence[Path], command: str) -> Optional[RawFormat]:
    """Return what standard input is, if it is raw; refuse options of a source that is not heard.

    Args:
        args: `device`, `rate` and `channels`.
        recordings: that are heard; none: the microphone is.
        command: that hears standard input, as an example.
    """
    if recordings and args.device is not None:
        raise DataError("--device chooses a microphone, which is not heard beside recordings; leave one of them out",
                        "no_effect")
    if args.rate is not None and STANDARD_INPUT not in recordings or args.channels is not None and args.rate is None:
        raise DataError(f"--rate and --channels describe raw samples from standard input: {command} --rate 16000 "
                        "--channels 1", "no_effect")
    if list(recordings).count(STANDARD_INPUT) > 1:
        raise DataError("standard input can be heard once; found - several times", "no_input")
    return None if args.rate is None else signed_16_bit(args.rate, args.channels or 1)


def chosen_sources(args: argparse.Namespace, recordings: Sequence[Path], sample_rate: int,
                   raw: Optional[RawFormat]) -> Iterator[SoundSource]:
    """List the recordings, or else open the microphone; see `recorded_sources` and `microphone_source`."""
    if recordings:
        return recorded_sources(recordings, sample_rate, raw)
    return iter([microphone_source(sample_rate, args.device)])
