"""Make a corpus of synthetic speech commands, the same on every run.

  kws synthesize                               the default: 10,000 clips, 340 MB, a minute
  kws synthesize data --keywords lights fan    your own words, no recordings needed
  kws synthesize few --speakers 10             a quick look: 10 speakers, 1,000 clips

The layout is that of Google Speech Commands: <word>/<speaker>_nohash_<take>.wav and _background_noise_/; real
recordings can take its place. _negative_speech_/ holds talk without a keyword to train on, _streams_/ running sound to
measure on. Synthetic voices show that the pipeline works, not how accurate a model is on people.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path

from kws.commands.cli import EXIT_OK, within


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data"), help="folder to make (default: data)")
    parser.add_argument("--keywords", nargs="+", metavar="WORD",
                        help="keywords (default: yes no up down left right on off stop go)")
    parser.add_argument("--words", nargs="*", metavar="WORD",
                        help="other words, for _unknown_ (default: 25 common ones)")
    parser.add_argument("--takes", nargs=2, type=within(int, 1), default=(5, 2), metavar=("KEYWORD", "OTHER"),
                        help="takes of a keyword and of another word by each speaker (default: 5 2)")
    parser.add_argument("--speakers", type=within(int, 1), metavar="N",
                        help="use only this many of the 100 speakers")
    parser.add_argument("--seed", type=within(int, 0), default=0, metavar="N", help="another corpus (default: 0)")
    parser.add_argument("--workers", type=within(int, 1), metavar="N",
                        help="voices made in parallel; the result is the same (default: one for each core)")
    parser.add_argument("--force", action="store_true", help="replace a synthetic corpus (nothing else)")


def run(args: argparse.Namespace) -> int:
    """Synthesize, then say what was made."""
    from kws.corpus import synthesis

    keywords = synthesis.KEYWORDS if args.keywords is None else args.keywords
    others = synthesis.OTHER_WORDS if args.words is None else args.words
    start = time.monotonic()
    clips = synthesis.synthesize(args.folder, keywords, others, keyword_takes=args.takes[0],
                                 word_takes=args.takes[1], speakers=args.speakers, seed=args.seed,
                                 workers=args.workers, overwrite=args.force)
    seconds = time.monotonic() - start
    speakers = {path.name[:8] for path in args.folder.glob("*/*_nohash_*.wav")}
    words = {*keywords, *others}
    print(f"{args.folder}: {clips} clips, {len(speakers)} speakers, {len(words)} words, {seconds:.0f} s, "
          f"sha256 {synthesis.tree_digest(args.folder)}")
    return EXIT_OK
