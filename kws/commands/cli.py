"""What every command line of the project shares: verbosity, logging, one-line errors and exit codes."""
from __future__ import annotations

import argparse
import io
import json
import logging
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional, Sequence, TypeVar

from kws.audio.decode import AUDIO_SUFFIXES
from kws.errors import DataError, KwsError
from kws.files.atomic import recover
from kws.model.folder import CONFIG_FILE, SHIPPED
from kws.model.labels import LabelSet

EXIT_OK, EXIT_BUG, EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

TRAINED = Path("models/kws")  # where a user's own model lies, seen from the current folder

logger = logging.getLogger("kws")

Number = TypeVar("Number", int, float)


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add -v (progress in words) and -vv (debugging, with tracebacks)."""
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv adds tracebacks")


def add_config(parser: argparse.ArgumentParser, default: Optional[str] = None,
               purpose: str = "names the prepared store") -> None:
    """Add the configuration file, as --config where there is a default, and its overrides."""
    if default is None:
        parser.add_argument("config", type=Path, help="YAML file, for example configs/kws.yaml")
    else:
        parser.add_argument("--config", type=Path, default=Path(default),
                            help=f"YAML file; {purpose} (default: {default})")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser, example: str = "training.epochs=3") -> None:
    """Add what overrides keys of the configuration."""
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help=f"override a key, for example {example}; may be repeated")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a model."""
    parser.add_argument("--model", type=Path,
                        help=f"model folder, or an ONNX file (default: {TRAINED}, or the shipped model without it)")


def add_stream_model(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a model for running sound."""
    parser.add_argument("--model", type=Path, help="exported model folder with a stream.onnx "
                        f"(default: {TRAINED}, or the shipped model without it)")


def within(kind: Callable[[str], Number], least: float, most: float = math.inf) -> Callable[[str], Number]:
    """Make what reads a number from the command line, an int or a float, and refuses others than `least` to `most`."""
    def read(text: str) -> Number:
        with suppress(ValueError):
            value = kind(text)
            if least <= value <= most and value < math.inf:
                return value
        raise argparse.ArgumentTypeError(f"{text}: expected {'a whole number' if kind is int else 'a number'}, "
                                         f"{least:,} {'or more' if most == math.inf else f'to {most:,}'}")

    return read


def chosen_model(model: Optional[Path]) -> Path:
    """Return the model that the user named; else models/kws if it exists, even if broken, else the shipped one."""
    if model is not None:
        return model
    recover(TRAINED)
    if os.path.lexists(TRAINED):
        return TRAINED
    id2label = json.loads((SHIPPED / CONFIG_FILE).read_text(encoding="utf-8"))["id2label"]
    keywords = LabelSet.from_id2label({int(index): label for index, label in id2label.items()}).keywords
    logger.warning("%s: no such folder; the shipped model is used, which recognises %s", TRAINED, " ".join(keywords))
    return SHIPPED


def refuse_recording(output: Path) -> None:
    """Raise DataError "recording" where lines would be written over a recording, perhaps one that is to be heard."""
    if output.suffix.lower() in AUDIO_SUFFIXES and output.exists():
        raise DataError(f"{output}: is a recording; expected another file to write", "recording")


def start_logging(verbose: int, log_file: Optional[Path] = None) -> None:
    """Send log lines to stderr (warnings; -v: information; -vv: everything) and, all of them, to a file."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(level)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(lambda record: not hasattr(record, "is_printed") or bool(verbose >= 2 and record.exc_info))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    for handler in handlers:
        logger.addHandler(handler)
    logging.raiseExceptions = False  # a log file on a full disk is no reason for a traceback
    logger.setLevel(logging.DEBUG if verbose >= 2 else logging.INFO)
    logger.propagate = False


def guard(main: Callable[[Optional[Sequence[str]]], int], argv: Optional[Sequence[str]] = None) -> int:
    """Run a command; report errors in one line on stderr and by the exit code.

    Returns:
        what `main` returned; 2 for bad input (KwsError, OSError), 130 after Ctrl-C, 1 for a bug of ours.
    """
    try:
        return _settled(_guarded(main, argv))
    except SystemExit as leaving:  # argparse, after --help or a wrong option
        if leaving.code not in (None, EXIT_OK):
            raise
        raise SystemExit(_settled(EXIT_OK)) from None


def _open_missing_streams() -> None:
    """Let standard streams that were closed, as by what starts daemons, lead nowhere."""
    missing = [(name, mode) for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
               if getattr(sys, name) is None]
    while missing and (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # no other file shall get their numbers: libraries write there
    if missing:
        os.close(number)
    for name, mode in missing:
        setattr(sys, name, open(os.devnull, mode))


def _settled(code: int) -> int:
    """Write what waits for standard output; Python would try again what it cannot take, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == EXIT_OK and not isinstance(error, BrokenPipeError):
            return _report(f"standard output: {error.strerror}", EXIT_BAD_INPUT, error)
    return code


def _guarded(main: Callable[[Optional[Sequence[str]]], int], argv: Optional[Sequence[str]]) -> int:
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):  # names of files and keywords may not fit the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main(argv)
    except KwsError as error:
        return _report(str(error), EXIT_BAD_INPUT, error)
    except KeyboardInterrupt:
        return _report("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_OK
    except ModuleNotFoundError as error:
        return _report(f"this needs the package {error.name}, which is not installed; pip install 'kws[train]' brings "
                       "all that training and evaluation need", EXIT_BAD_INPUT, error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"{where}{error.strerror or error}", EXIT_BAD_INPUT, error)
    except Exception as error:  # the border of the program: nothing may leave it as a traceback
        return _report(f"internal error: {type(error).__name__}: {error} (-vv shows where)", EXIT_BUG, error)


def _report(message: str, code: int, error: Optional[Exception] = None) -> int:
    """Print an error in one line; write it with its traceback to the log file, if there is one."""
    print(f"error: {message}", file=sys.stderr)
    if logger.handlers:
        logger.error(message, exc_info=error, extra={"is_printed": True})
    return code
