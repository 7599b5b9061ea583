"""Spot words in a browser: a page with the model in it, for microphone and recordings.

  kws demo                              then open the address that it prints
  kws demo --model models/kws
  kws demo --write site                 the page as a folder, for any static host

Nothing is sent anywhere: the model runs in the page. Browsers give a microphone to pages of this computer and of
https:// only, so another device needs the folder on such a host. The first start fetches ONNX Runtime for browsers with
npm; after that no network is needed.
"""
from __future__ import annotations

import argparse
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kws.commands.cli import EXIT_OK, add_stream_model, chosen_model, logger, within
from kws.errors import DataError
from kws.files.atomic import atomic_folder
from kws.web.site import write_site


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_stream_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=within(int, 0, 65_535), default=8000, metavar="N",
                        help="port (default: 8000; 0: any free one)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the page to a new folder instead")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or write it."""
    model = chosen_model(args.model)
    if args.write is not None:
        if args.write.exists():
            raise DataError(f"{args.write}: exists; expected a new folder", "exists")
        with atomic_folder(args.write) as folder:
            write_site(model, folder)
        print(f"{args.write}: open its index.html by a web server, not as a file")
        return EXIT_OK
    with tempfile.TemporaryDirectory() as name:
        write_site(model, Path(name))
        serve(Path(name), args.host, args.port)
    return EXIT_OK


def serve(folder: Path, host: str, port: int) -> None:
    """Offer a folder by HTTP until Ctrl-C; raises DataError if the port cannot be had."""
    try:
        server = Server((host, port), partial(Handler, directory=str(folder)))
    except OSError as error:
        raise DataError(f"{host}:{port}: cannot be used ({error.strerror}); --port 0 takes any free port",
                        "no_port") from None
    with server:
        print(f"http://{host}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()


class Server(ThreadingHTTPServer):
    """Answers many browsers at once."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that leaves in the middle of a file."""
        logger.debug("%s", client_address, exc_info=True)


class Handler(SimpleHTTPRequestHandler):
    """Sends files with the headers that browsers need."""

    # The system's own table of types may lack these, or have others.
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript", ".mjs": "text/javascript",
                      ".wasm": "application/wasm", ".onnx": "application/octet-stream", ".svg": "image/svg+xml"}

    def end_headers(self) -> None:
        """Forbid old copies of files from an earlier run, and requests to other hosts."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
                         "base-uri 'none'; form-action 'none'")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""
