"""Find every keyword in long recordings, with its time.

  kws listen recording.flac                            prints a line for each keyword
  kws listen a.wav b.wav --format jsonl
  arecord -f S16_LE -r 16000 -c 1 -d 60 | kws listen -

Each keyword is one line: when it was known (seconds from the start), the keyword, its confidence. - is standard input,
a whole recording in any format. A recording may last 4 hours.

exit code: 0 all recordings were heard, 3 some could not be used, 2 nothing could be done
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kws.audio.decode import Limits
from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED, logger
from kws.errors import AudioError
from kws.inference.decision import Detection
from kws.inference.listening import StreamModel, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE

_STANDARD_INPUT = Path("-")
_LIMITS = Limits(max_bytes=2**31, max_seconds=4 * 3600.0, max_values=2**31)  # a recording is decoded as a whole: 1 GB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("recordings", type=Path, nargs="+", metavar="FILE", help="recording, or - for standard input")
    parser.add_argument("--model", type=Path, default=SHIPPED,
                        help="exported model folder with a stream.onnx (default: the shipped one)")
    parser.add_argument("--format", choices=("text", "jsonl"), default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    """Listen, and print what was heard."""
    model, failed = StreamModel(args.model / STREAM_FILE), False
    line = _json_line if args.format == "jsonl" else _text_line
    for path in args.recordings:
        try:
            source = sys.stdin.buffer.read() if path == _STANDARD_INPUT else path
            for detection in listen_to(model, source, _LIMITS):
                print(line(path, detection), flush=True)
        except AudioError as error:
            failed = True
            logger.error("%s", error)
            if args.format == "jsonl":
                told = {"path": str(path), "error": f"{error.code}: {error}"}
                print(json.dumps(told, ensure_ascii=False), flush=True)
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _json_line(path: Path, detection: Detection) -> str:
    told = {"path": str(path), "word": detection.word, "start_s": round(detection.start_seconds, 3),
            "end_s": round(detection.end_seconds, 3), "time_s": round(detection.time_seconds, 3),
            "confidence": detection.confidence}
    return json.dumps(told, ensure_ascii=False)


def _text_line(path: Path, detection: Detection) -> str:
    return f"{detection.time_seconds:9.2f} s  {detection.word:<12} {detection.confidence:6.1%}  {path}"
