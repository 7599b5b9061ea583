"""Serve keywords in sound to Home Assistant, by the Wyoming protocol.

  kws serve-wyoming --uri tcp://0.0.0.0:10400
  kws serve-wyoming --model models/mine --language nl --threshold 0.7

Every keyword is a wake word of its own; a client hears of all of them, or of those it asks for. Sound may have any
rate, 1 to 4 bytes a sample and up to 64 channels. The protocol has neither encryption nor passwords: whoever reaches
the address can use it. Detections are logged with -v.

exit code: 2 it could not be served, 130 ended by Ctrl-C or SIGTERM
"""
from __future__ import annotations

import argparse
import asyncio
import importlib.util
from typing import NamedTuple
from urllib.parse import urlparse

from kws.commands.cli import chosen_model, within
from kws.commands.listen import add_model_and_thresholds, rule_of
from kws.errors import DataError, ModelError
from kws.inference.listening import StreamModel
from kws.model.folder import SHIPPED, STREAM_FILE


class Address(NamedTuple):
    """Where to serve."""

    host: str
    port: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--uri", type=address, default="tcp://127.0.0.1:10400", metavar="tcp://HOST:PORT",
                        help="where to serve; HOST 0.0.0.0 is every address of this machine (default: %(default)s)")
    add_model_and_thresholds(parser)
    parser.add_argument("--language", action="append", metavar="CODE",
                        help="of the keywords, told to clients; may be repeated (default: en for the shipped model)")
    parser.add_argument("--max-connections", type=within(int, 1, 10_000), default=256, metavar="N",
                        help="at a time (default: 256)")
    parser.add_argument("--zeroconf", action="store_true", help="let Home Assistant find it; needs zeroconf")


def address(text: str) -> Address:
    """Read tcp://HOST:PORT from the command line."""
    parts = urlparse(text)
    try:
        port = parts.port or 0
    except ValueError:  # none that there is
        port = 0
    if parts.scheme != "tcp" or not parts.hostname or not port or parts.path:
        raise argparse.ArgumentTypeError(f"{text}: expected tcp://HOST:PORT, as in tcp://0.0.0.0:10400")
    return Address(parts.hostname, port)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    try:
        from kws.inference.wyoming.server import serve
        from kws.inference.wyoming.service import Service
    except ModuleNotFoundError:
        raise DataError("this needs the package wyoming, which is not installed: pip install 'kws[wyoming]'",
                        "no_wyoming") from None
    if args.zeroconf and importlib.util.find_spec("zeroconf") is None:
        raise DataError("--zeroconf needs the package zeroconf, which is not installed: pip install zeroconf",
                        "no_zeroconf")
    folder = chosen_model(args.model)
    model = StreamModel(folder / STREAM_FILE)
    if not model.hears_many:
        raise ModelError(f"{folder / STREAM_FILE}: hears one sound at a time; `kws export` makes a file that hears "
                         "many")
    languages = args.language or (["en"] if folder.resolve() == SHIPPED else [])
    service = Service(model, rule_of(model, args.threshold), languages, args.max_connections)
    host, port = args.uri
    asyncio.run(serve(service, host, port, args.zeroconf, lambda: print(
        f"serving tcp://{host}:{port}: {' '.join(model.labels.keywords)}", flush=True)))
    raise KeyboardInterrupt  # what ended it
