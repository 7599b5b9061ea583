"""Make a spotter of your own words from a few recordings, or none, in a minute.

  kws teach my-recordings --keywords lights fan
  kws teach --keywords lights fan --synthesize         no recordings: synthetic voices say the words

my-recordings/ holds a folder for each word (kws record makes it): my-recordings/lights/anna_nohash_0.wav. Ten
recordings of a word by a few people are a good start, three are the least that makes sense. Other folders there are
other words; they help, but none are needed. What comes with the package knows speech already, so it takes a minute.

Afterwards: kws listen (hears the words from the microphone) and kws predict (labels recordings).
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.cli import EXIT_OK, TRAINED, add_overrides, within
from kws.errors import DataError

if TYPE_CHECKING:
    from kws.training.own_words import OwnWords

REPORTS, PAGE = Path("reports"), "own-words.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recordings", type=Path, nargs="?", default=Path("my-recordings"),
                        help="folder with a folder of recordings for each word (default: my-recordings)")
    parser.add_argument("--keywords", nargs="+", required=True, metavar="WORD", help="words to spot: names of folders")
    parser.add_argument("--output_path", type=Path, default=TRAINED, metavar="DIR",
                        help=f"model folder, replaced (default: {TRAINED}, which the other commands then use)")
    parser.add_argument("--synthesize", action="store_true",
                        help="let 100 synthetic voices say the words too, as English; no recordings are needed then")
    parser.add_argument("--seed", type=within(int, 0), default=0, metavar="N",
                        help="of all random choices (default: 0)")
    add_overrides(parser, "data.max_seconds=20")


def run(args: argparse.Namespace) -> int:
    """Prepare, teach, export, and print how sure the result is."""
    from kws.commands.export import export_model
    from kws.commands.prepare import prepare_recordings
    from kws.config.sections import load_config
    from kws.corpus.synthesis import add_voices
    from kws.model.folder import BODY
    from kws.training.own_words import summary_text
    from kws.training.own_words_page import write_own_words
    from kws.training.processes.environment import check_alone
    from kws.training.teach_job import teach

    check_alone("kws teach")
    config = load_config(BODY / "own.yaml", [
        f"seed={args.seed}", *(f"{key}={json.dumps(value)}" for key, value in {
            "data.root": str(args.recordings), "data.keywords": args.keywords,
            "training.model": str(args.output_path), "training.start_from": str(BODY)}.items()), *args.set])
    recordings, model = config.data.root, config.training.model
    if not args.synthesize and not recordings.is_dir():
        raise DataError(f"{recordings}: no such folder; expected a folder of recordings for each word in it. `kws "
                        f"record {args.keywords[0]} --output_path {recordings}` makes it; --synthesize needs none",
                        "not_found")
    if args.synthesize:
        add_voices(recordings, config.data.keywords, config.seed)
    prepare_recordings(config, REPORTS)

    def complete(folder: Path, own: OwnWords) -> None:
        write_own_words(own, folder / PAGE, ", ".join(own.keywords))
        export_model(folder, config, name=model)

    own = teach(config, complete=complete)
    print(f"{summary_text(own)}\n{model / PAGE} shows more")
    return EXIT_OK
