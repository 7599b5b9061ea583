"""Exit with 0 if the model has a worker that is ready: for Docker, which runs it in the container every half minute.

/ping answers "Healthy" without any worker, so the management API is asked, with the key that TorchServe wrote where
it requires tokens.
"""
from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

KEYS = Path(__file__).with_name("key_file.json")


def has_worker() -> bool:
    """Ask whether a worker is ready, with a token where tokens are required.

    Raises:
        OSError, ValueError, LookupError: if TorchServe does not answer, or not as usual.
    """
    request = urllib.request.Request(os.environ.get("TS_MANAGEMENT_ADDRESS", "http://127.0.0.1:8081") + "/models/kws")
    if KEYS.is_file():
        key = json.loads(KEYS.read_text(encoding="utf-8"))["management"]["key"]
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=5) as response:
        workers = json.load(response)[0]["workers"]
    return any(worker["status"] == "READY" for worker in workers)


if __name__ == "__main__":
    raise SystemExit(0 if has_worker() else 1)
