#!/usr/bin/env python
"""Count which words `kws record` finds in long recordings: clips of Speech Commands joined with pauses.

usage: python scripts/benchmark_takes.py shared/real-speech [--words go left up stop yes right] [--clips 40]

The clips are the first of each word in validation_list.txt. Pauses last 0.5 to 1.5 s.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Iterator, Optional, Sequence

import numpy as np

from kws.audio.blocks import recording_blocks
from kws.audio.recording.quality import fault_of
from kws.audio.recording.takes import Take, TakeFinder
from kws.commands.cli import EXIT_OK, add_verbosity, guard, start_logging, within
from kws.errors import DataError

_RATE = 16000
_PAUSES = 0.5, 1.5  # seconds, least and most
_NOISE_DB = None, -60, -45  # over everything; None: the pauses are zeros


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("recordings", type=Path, help="folder in the layout of Speech Commands")
    parser.add_argument("--words", nargs="+", default="go left up stop yes right".split(), metavar="WORD")
    parser.add_argument("--clips", type=within(int, 1), default=40, help="of each word (default: 40)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def clips_of(folder: Path, words: Sequence[str], count: int) -> Iterator[np.ndarray]:
    """Read the first validation clips of some words, in turn: [T] float32 each."""
    names = (folder / "validation_list.txt").read_text(encoding="utf-8").split()
    for index in range(count):
        for word in words:
            of_word = [name for name in names if name.startswith(f"{word}/")]
            if index >= len(of_word):
                raise DataError(f"{folder}: has {len(of_word)} validation clips of {word}; expected {count}")
            path = folder / of_word[index]
            path = path if path.exists() else path.with_suffix(".flac")
            yield np.concatenate(list(recording_blocks(path, _RATE)))


def joined(clips: Sequence[np.ndarray], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Join clips with pauses: [T], and the middle of every clip in seconds."""
    parts, middles, length = [], [], 0
    for clip in clips:
        pause = np.zeros(round(generator.uniform(*_PAUSES) * _RATE), np.float32)
        parts += [pause, clip]
        middles.append((length + len(pause) + len(clip) / 2) / _RATE)
        length += len(pause) + len(clip)
    return np.concatenate([*parts, np.zeros(_RATE, np.float32)]), np.array(middles)


def takes_in(sound: np.ndarray) -> list[Take]:
    """Find takes in [T], in pieces of 0.1 s."""
    finder = TakeFinder(_RATE)
    pieces = np.split(sound, range(_RATE // 10, len(sound), _RATE // 10))
    return [take for piece in pieces for take in finder.feed(piece)] + finder.finish()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Count in silence and in noise, and print a line for each."""
    args = parse_args(argv)
    start_logging(args.verbose)
    generator = np.random.default_rng(0)
    sound, middles = joined(list(clips_of(args.recordings, args.words, args.clips)), generator)
    noise = generator.standard_normal(len(sound)).astype(np.float32)
    for level in _NOISE_DB:
        began = time.process_time()
        takes = takes_in(sound if level is None else sound + 10 ** (level / 20) * noise)
        share = (time.process_time() - began) * _RATE / len(sound)
        nearest = [int(np.abs(middles - take.at_seconds - (take.start + take.end) / 2 / _RATE).argmin())
                   for take in takes]
        alone = [take for take, index in zip(takes, nearest) if nearest.count(index) == 1]
        faults = [fault for take in alone if (fault := fault_of(take, 1.0))]
        clipped = sum("clipped" in fault for fault in faults)
        print(f"{'zeros' if level is None else f'{level} dBFS':>9}: {len(middles)} clips, {len(alone)} are one take, "
              f"{len(faults)} of these refused, {clipped} as clipped; {share:.3f} of real time")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
