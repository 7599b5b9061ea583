"""Make a corpus of synthetic speech commands, the same on every run: python scripts/synthesize.py data"""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Optional, Sequence

from kws.cli import add_verbosity, guard, start_logging
from kws.data import synthesis

EPILOG = """\
examples:
  python scripts/synthesize.py                               the default: 10,000 clips, 310 MB, half a minute
  python scripts/synthesize.py data --keywords lights fan    your own words, no recordings needed
  python scripts/synthesize.py few --speakers 10             a quick look: 10 speakers, 1,000 clips

The layout is that of Google Speech Commands: <word>/<speaker>_nohash_<take>.wav and _background_noise_/; real
recordings can take its place. Synthetic voices show that all works, not how well a model hears people."""


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data"), help="folder to make (data)")
    parser.add_argument("--keywords", nargs="+", default=synthesis.KEYWORDS, metavar="WORD",
                        help=f"words to spot ({' '.join(synthesis.KEYWORDS)})")
    parser.add_argument("--words", nargs="*", default=synthesis.OTHER_WORDS, metavar="WORD",
                        help=f"other words to tell them from ({len(synthesis.OTHER_WORDS)} common ones)")
    parser.add_argument("--takes", nargs=2, type=int, default=(5, 2), metavar=("KEYWORD", "OTHER"),
                        help="takes by each speaker of a keyword and of another word (5 2)")
    parser.add_argument("--speakers", type=int, help="only the first so many of the speakers (all 100)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another corpus (0)")
    parser.add_argument("--workers", type=int, help="voices at a time, the result is the same (processors)")
    parser.add_argument("--force", action="store_true", help="replace a synthetic corpus, nothing else")
    add_verbosity(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Synthesize, then say what was made."""
    args = parse_args(argv)
    start_logging(args.verbose)
    start = time.monotonic()
    clips = synthesis.synthesize(args.folder, args.keywords, args.words, keyword_takes=args.takes[0],
                                 word_takes=args.takes[1], speakers=args.speakers, seed=args.seed,
                                 workers=args.workers, overwrite=args.force)
    seconds = time.monotonic() - start
    speakers = {path.name[:8] for path in args.folder.glob("*/*_nohash_*.wav")}
    words = {*args.keywords, *args.words}
    print(f"{args.folder}: {clips} clips, {len(speakers)} speakers, {len(words)} words, {seconds:.0f} s, "
          f"sha256 {synthesis.tree_digest(args.folder)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(guard(main))
