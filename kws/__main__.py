"""The command `kws`: every module of `kws.commands` is a sub-command."""
from __future__ import annotations

import argparse
import importlib
import pkgutil
import signal
from typing import Optional, Sequence

import kws
from kws import commands
from kws.commands.cli import guard, start_logging

_DESCRIPTION = """\
Spot spoken words: label recordings with the model that ships with the package, or train one for your own words.

  kws predict a.wav recordings/                what is said in these recordings
  kws train configs/kws.yaml -v                a model of your own

`kws COMMAND --help` explains a command."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each says what it does in the first line of its module."""
    parser = argparse.ArgumentParser("kws", description=_DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"kws {kws.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        if hasattr(module, "add_arguments"):
            text = str(module.__doc__)
            subparser = subparsers.add_parser(
                found.name.replace("_", "-"), help=text.splitlines()[0], description=text,
                formatter_class=argparse.RawDescriptionHelpFormatter)
            module.add_arguments(subparser)
            subparser.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv adds tracebacks")
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code; see `kws.commands.cli.guard`."""
    return guard(_run, argv)


def run_program(argv: Optional[Sequence[str]] = None) -> None:
    """Run a command as this process, and exit with its code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `docker stop` is Ctrl-C
    raise SystemExit(main(argv))


def _run(argv: Optional[Sequence[str]]) -> int:
    parser = build_parser()
    _offer_completion(parser)
    args = parser.parse_args(argv)
    start_logging(args.verbose)
    return int(args.run(args))


def _offer_completion(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, where argcomplete is installed."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


if __name__ == "__main__":
    run_program()
