# PYTHON_ARGCOMPLETE_OK
"""The command `kws`: every module of `kws.commands` is a sub-command."""
from __future__ import annotations

import argparse
import difflib
import gc
import importlib
import pkgutil
import signal
import sys
from types import ModuleType
from typing import NoReturn, Optional, Sequence

import kws
from kws import commands
from kws.commands.cli import EXIT_BAD_INPUT, add_verbosity, guard, start_logging
from kws.errors import DataError

_DESCRIPTION = """\
Spot spoken words, with the model that comes with the package or one of your own.

  kws predict a.wav recordings/                what is said in these recordings
  kws listen                                   each keyword as it is said, from the microphone
  kws record lights fan                        your own words: record some takes of each,
  kws teach --keywords lights fan              and make a model that spots them, in a minute
  kws train configs/kws.yaml -v                a model from many recordings, with every setting in a file

commands:
"""
_EPILOG = """\
`kws COMMAND --help` explains a command.

exit code: 0 done, 2 bad input (one line says what and where), 3 some inputs could not be used, 130 interrupted,
           1 a fault of the program
completion in the shell: pip install 'kws[completion]', then: eval "$(register-python-argcomplete kws)"
"""


def find_commands(wanted: Optional[str] = None) -> dict[str, ModuleType]:
    """Import the modules that are sub-commands, by name, as typed; only the wanted one, if there is such a command."""
    names = {found.name.replace("_", "-"): found.name for found in pkgutil.iter_modules(commands.__path__)}
    if wanted in names:
        names = {wanted: names[wanted]}
    modules = {name: importlib.import_module(f"{commands.__name__}.{found}") for name, found in names.items()}
    return {name: module for name, module in modules.items() if hasattr(module, "add_arguments")}


class OneLineParser(argparse.ArgumentParser):
    """Reports wrong arguments as `guard` reports other errors."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit."""
        self.exit(EXIT_BAD_INPUT, f"error: {self.prog}: {message}; `{self.prog} --help` explains\n")


def build_parser(wanted: Optional[str] = None) -> argparse.ArgumentParser:
    """Build the parser of all commands, or of the wanted one; each says what it does in its module's first line."""
    found = find_commands(wanted)
    # argparse's own list of commands breaks a line after every name of more than 8 letters.
    listed = "\n".join(f"  {name:<18}{str(module.__doc__).splitlines()[0]}" for name, module in found.items())
    parser = OneLineParser("kws", usage="kws [-h] [--version] COMMAND ...", description=_DESCRIPTION + listed,
                           epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"kws {kws.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, prog="kws", help=argparse.SUPPRESS)
    for name, module in found.items():
        subparser = subparsers.add_parser(name, description=module.__doc__,
                                          formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(subparser)
        add_verbosity(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code; see `kws.commands.cli.guard`."""
    return guard(_run, argv)


def run_program(argv: Optional[Sequence[str]] = None) -> None:
    """Run a command as this process, and exit with its code."""
    gc.set_threshold(100_000, 50, 100)  # by default, looking for garbage takes an eighth of the time to load PyTorch
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `docker stop` is Ctrl-C
    raise SystemExit(main(argv))


def _run(argv: Optional[Sequence[str]]) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(argv[0] if argv else None)
    _offer_completion(parser)
    if not argv:
        parser.print_help()
        return EXIT_BAD_INPUT
    _check_command(argv[0])
    args = parser.parse_args(argv)
    start_logging(args.verbose)
    return int(args.run(args))


def _check_command(name: str) -> None:
    """Say which command may have been meant; argparse lists all of them."""
    if not name.startswith("-") and name not in (known := find_commands(name)):
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean `kws {close[0]}`?" if close else "`kws --help` lists them"
        raise DataError(f"kws {name}: no such command; {meant}", "no_command")


def _offer_completion(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, where argcomplete is installed."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


if __name__ == "__main__":
    run_program()
