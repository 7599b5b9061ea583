"""Tell whoever balances the load whether to send requests here: GET /ping, 200 or 503, on a port of its own.

TorchServe's /ping says Healthy without a worker, says so to the last moment when it is being stopped, and wants a token
where tokens are required. serve.sh ends this process first, so that the closed port takes the service out of rotation
while it still answers.
"""
from __future__ import annotations

import contextlib
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from healthcheck import has_worker

ADDRESS = os.environ.get("READINESS_ADDRESS", "http://127.0.0.1:8083")


class Readiness(BaseHTTPRequestHandler):
    """Answer every GET with what the management API knows at this moment."""

    timeout = 5  # s for a client to send its request

    def do_GET(self) -> None:
        """Say 200 if a worker is ready, else 503."""
        try:
            ready = has_worker()
        except (OSError, ValueError, LookupError):  # TorchServe is not there yet, or knows no model
            ready = False
        document: dict[str, Any] = {"status": "Healthy"} if ready else {
            "error": {"code": "not_ready", "message": "no worker has loaded the model yet; ask again in a second"}}
        body = json.dumps(document).encode()
        with contextlib.suppress(ConnectionError):  # whoever asked did not wait
            self.send_response(200 if ready else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: somebody asks every second."""


def main() -> int:
    """Serve until a signal ends the process."""
    address = urlsplit(ADDRESS)
    try:
        server = ThreadingHTTPServer((address.hostname or "", address.port or 80), Readiness)
    except OSError as error:
        print(f"readiness: cannot listen on {ADDRESS} ({error.strerror}); READINESS_ADDRESS names another",
              file=sys.stderr)
        return 2
    server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
