"""Record your own words for training: prompts, cuts takes to the word, refuses bad ones.

  kws record lights --takes 10 --speaker anna          from the microphone, into my-recordings/lights/
  kws record lights fan --speaker anna                 several words in turn
  kws record --list-devices                            then: kws record lights --device usb
  kws record lights long.flac recordings/              each sound between pauses is a take
  arecord -f S16_LE -r 16000 -c 1 | kws record lights -

An argument with a slash, the suffix of a recording, or - is a recording; all others are words. Takes that are clipped,
too quiet, cut off or longer than the window are refused, and asked for again. Earlier takes stay: numbers go on.

Afterwards: kws teach --keywords lights fan (makes a model that spots them).

exit code: 0 all takes were recorded, 3 some are missing, were refused or could not be read, 2 none was recorded,
           130 interrupted
"""
from __future__ import annotations

import argparse
import getpass
import logging
import sys
from pathlib import Path
from typing import Iterator

from kws.audio.decode import AUDIO_SUFFIXES
from kws.audio.microphone import Gap
from kws.audio.recording.files import TakeFolder, checked_speaker
from kws.audio.recording.keyboard import Keyboard
from kws.audio.recording.recorder import Recorder
from kws.audio.recording.takes import Take, TakeFinder
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK, EXIT_SOME_FAILED, logger, within
from kws.commands.prompts import Prompts
from kws.commands.sound_input import add_sound_input, chosen_sources, print_devices, raw_format
from kws.errors import AudioError, DataError
from kws.inference.meter import LevelBar
from kws.inference.sources import STANDARD_INPUT, SoundSource
from kws.model.labels import check_word

SAMPLE_RATE = 16000
TAKES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("words", nargs="*", metavar="WORD",
                        help="word to record; or a recording, a folder of them with a slash, or - for standard input "
                        "(default: the microphone)")
    parser.add_argument("--takes", type=within(int, 1, 1000), metavar="N",
                        help=f"takes of each word (default: {TAKES}; from recordings, all)")
    parser.add_argument("--speaker", metavar="NAME", help="who speaks (default: your login name)")
    parser.add_argument("--output_path", type=Path, default=Path("my-recordings"), metavar="DIR",
                        help="data folder to add to (default: my-recordings)")
    parser.add_argument("--window", type=within(float, 0.3, 1.5), default=1.0, metavar="SECONDS",
                        help="length that a word has to fit in, 0.3 to 1.5 (default: 1.0)")
    add_sound_input(parser)


def run(args: argparse.Namespace) -> int:
    """Record, and tell what was kept."""
    if args.list_devices:
        print_devices()
        return EXIT_OK
    recordings = [Path(text) for text in args.words if _is_recording(text)]
    words = [_word(text) for text in args.words if not _is_recording(text)]
    raw = raw_format(args, recordings, "kws record lights -")
    _check(words, recordings)
    speaker = checked_speaker(args.speaker) if args.speaker is not None else _login_name()
    wanted = args.takes or (None if recordings else TAKES)
    folder = TakeFolder(args.output_path, speaker, SAMPLE_RATE)
    with folder.alone():
        sources = chosen_sources(args, recordings, SAMPLE_RATE, raw)
        recorder = Recorder(words, wanted, folder, args.window)
        failed = _record(recorder, sources, is_live=not recordings)
    return _report(recorder, failed)


def _is_recording(text: str) -> bool:
    return text == str(STANDARD_INPUT) or "/" in text or Path(text).suffix.lower() in AUDIO_SUFFIXES


def _word(text: str) -> str:
    try:
        return check_word(text)
    except ValueError as error:
        raise DataError(f"{text!r}: {error}", "bad_word") from None


def _check(words: list[str], recordings: list[Path]) -> None:
    """Refuse what cannot be recorded."""
    if repeated := {word for word in words if words.count(word) > 1}:
        raise DataError(f"{', '.join(sorted(repeated))}: named twice; --takes says how often a word is said",
                        "repeated_word")
    for path in recordings:
        if path != STANDARD_INPUT and not path.exists():
            raise DataError(f"{path}: no such file or folder; expected a recording. A word has no slash and no suffix "
                            "of a recording", "not_found")
    if not words:
        raise DataError("no word to record; expected for example: kws record lights --takes 10 --speaker anna",
                        "no_word")
    if recordings and len(words) > 1:
        raise DataError(f"{', '.join(words)}: a recording does not say which of them is said where; expected one word "
                        "for each call", "several_words")


def _login_name() -> str:
    try:
        return checked_speaker(getpass.getuser())
    except (DataError, KeyError, OSError, ImportError):  # a container's user may have no name
        return "me"


def _report(recorder: Recorder, failed: bool) -> int:
    """Say how many takes there are; return the exit code."""
    if not recorder.kept and not recorder.refused and not failed:
        raise DataError("no take was found; a take is sound between two pauses of half a second", "no_takes")
    missing = 0 if recorder.wanted is None else recorder.wanted * len(recorder.words) - len(recorder.kept)
    logger.log(logging.WARNING if missing or recorder.refused else logging.INFO, "%d takes kept, %d refused%s",
               len(recorder.kept), recorder.refused, f", {missing} missing" if missing else "")
    if not recorder.kept:
        return EXIT_BAD_INPUT
    return EXIT_SOME_FAILED if failed or missing or recorder.wanted is None and recorder.refused else EXIT_OK


def _record(recorder: Recorder, sources: Iterator[SoundSource], is_live: bool) -> bool:
    """Hear the sources until no more takes are wanted; return whether some could not be read."""
    failed, bar = False, LevelBar(sys.stderr)
    for handler in logger.handlers:
        handler.addFilter(bar)
    with Keyboard(sys.stdin if is_live and bar.is_shown else None) as keyboard:
        for source in sources:
            try:
                if not _hear(recorder, source, Prompts(recorder, source.name, is_live, bar, keyboard), keyboard):
                    break
            except AudioError as error:
                failed = True
                logger.error("%s", error)
            finally:
                bar.clear()
    return failed


def _hear(recorder: Recorder, source: SoundSource, prompts: Prompts, keyboard: Keyboard) -> bool:
    """Hear a source to its end; return whether more takes are wanted."""
    finder = TakeFinder(SAMPLE_RATE)
    for block in source.blocks():
        if isinstance(block, Gap):
            takes = finder.finish()
        else:
            takes = finder.feed(prompts.listened(block))
            prompts.show(block, finder)
        if keys := keyboard.pressed():
            takes += finder.finish()  # the last word may have been said just before the key
        if not _add(recorder, takes, prompts) or not prompts.answer(keys):
            return False
    return _add(recorder, finder.finish(), prompts)


def _add(recorder: Recorder, takes: list[Take], prompts: Prompts) -> bool:
    """Keep or refuse takes, and report each; return whether more are wanted."""
    for take in takes:
        prompt = recorder.prompt
        if fault := recorder.add(take):
            prompts.refused(take, fault)
        else:
            prompts.kept(prompt, take)
        if recorder.is_complete:
            return False
    return True
