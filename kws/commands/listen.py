"""Find every keyword in running sound, with its time: microphone, recordings, pipes.

  kws listen                                           the microphone, until Ctrl-C
  kws listen --list-devices                            then: kws listen --device usb
  kws listen recording.flac recordings/ --format jsonl
  arecord -f S16_LE -r 16000 -c 1 | kws listen -
  ffmpeg -i rtsp://camera/1 -f s16le -ac 1 -ar 16000 - | kws listen - --rate 16000
  kws listen --threshold 0.8 --threshold stop=0.6      report less, but "stop" more often
  kws listen --exec 'notify-send {word}'               run a program for each keyword
  kws listen --save-detections false-accepts/          keep the sound of each

Each keyword is one line: when it was known (seconds from the start), the keyword, its confidence. A microphone that is
pulled out is waited for. Recordings may have any length; what is not WAV, up to 1 GiB. From standard input WAV and raw
samples are heard as they come, other formats when they are complete, up to 256 MiB.

exit code: 0 all sound was heard, 3 some could not be used or written, 2 nothing could be done, 130 interrupted
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Iterator, Sequence

from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED, add_stream_model, chosen_model, logger, refuse_recording
from kws.commands.sound_input import add_sound_input, chosen_sources, print_devices, raw_format
from kws.errors import AudioError, DataError
from kws.inference.clips import ClipSaver
from kws.inference.detector import DetectorSettings, with_thresholds
from kws.inference.lines import FORMATS, LineWriter
from kws.inference.listening import Listener, StreamModel
from kws.inference.meter import Meter
from kws.inference.programs import Programs
from kws.inference.reactions import Reactions, follow
from kws.inference.sources import SoundSource
from kws.model.folder import STREAM_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recordings", type=Path, nargs="*", metavar="INPUT",
                        help="recording, folder of them, or - for standard input (default: the microphone)")
    add_model_and_thresholds(parser)
    add_sound_input(parser)
    parser.add_argument("--format", choices=FORMATS, help="of the lines (default: by the suffix of OUT, else text)")
    parser.add_argument("--output_path", type=Path, metavar="OUT",
                        help="file for the lines, replaced (default: the terminal)")
    parser.add_argument("--exec", metavar="COMMAND", help="program to run for each keyword, one at a time; {word}, "
                        "{confidence}, {time_s}, {start_s}, {end_s} and {path} are filled in")
    parser.add_argument("--save-detections", type=Path, metavar="DIR",
                        help="folder for the second around each keyword, as WAV")


def add_model_and_thresholds(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a model for running sound, and of its rule."""
    add_stream_model(parser)
    parser.add_argument("--threshold", type=threshold, action="append", default=[], metavar="[WORD=]CONFIDENCE",
                        help="least confidence of a keyword, or of all, between 0 and 1; may be repeated (default: the "
                        "model's)")


def rule_of(model: StreamModel, thresholds: Sequence[tuple[str, float]]) -> DetectorSettings:
    """Make the rule of a model with the thresholds of the command line."""
    by_word = dict(thresholds)
    return with_thresholds(model.settings, model.labels, by_word.pop("", None), by_word)


def threshold(text: str) -> tuple[str, float]:
    """Read WORD=CONFIDENCE or CONFIDENCE from the command line; "" is every word."""
    word, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1.0 or equals and not word:
        raise argparse.ArgumentTypeError(f"{text}: expected WORD=CONFIDENCE or CONFIDENCE, more than 0 and less than 1")
    return word, value


def run(args: argparse.Namespace) -> int:
    """Listen, and tell what was heard."""
    if args.list_devices:
        print_devices()
        return EXIT_OK
    raw = raw_format(args, args.recordings, "kws listen -")
    _check(args)
    model = StreamModel(chosen_model(args.model) / STREAM_FILE)
    settings = rule_of(model, args.threshold)
    sources = chosen_sources(args, args.recordings, model.sample_rate, raw)
    with _reactions(args, model.sample_rate) as reactions:
        failed = _listen(Listener(model, settings), sources, reactions)
    return EXIT_SOME_FAILED if failed or reactions.lost else EXIT_OK


def _check(args: argparse.Namespace) -> None:
    """Refuse to write over what is heard."""
    if args.output_path is None:
        return
    if any(path.exists() and args.output_path.exists() and args.output_path.samefile(path) for path in args.recordings):
        raise DataError(f"{args.output_path}: is the input; expected another file to write", "same_file")
    refuse_recording(args.output_path)


def _reactions(args: argparse.Namespace, sample_rate: int) -> Reactions:
    is_json = args.output_path is not None and args.output_path.suffix.lower() == ".jsonl"
    programs = Programs(args.exec) if args.exec is not None else None
    clips = ClipSaver(args.save_detections, sample_rate) if args.save_detections is not None else None
    meter = Meter(sys.stderr)
    for handler in logger.handlers:
        handler.addFilter(meter)
    lines = LineWriter(args.output_path, args.format or ("jsonl" if is_json else "text"))
    return Reactions(lines, meter, programs, clips)


def _listen(listener: Listener, sources: Iterator[SoundSource], reactions: Reactions) -> bool:
    """Hear all sources; return whether some could not be used."""
    failed = False
    for source in sources:
        try:
            follow(listener, source, reactions)
        except AudioError as error:
            failed = True
            logger.error("%s", error)
            reactions.lines.error(source.name, error)
    return failed
