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


def main() -> int:
    """Ask, with a token where tokens are required."""
    request = urllib.request.Request(os.environ.get("TS_MANAGEMENT_ADDRESS", "http://127.0.0.1:8081") + "/models/kws")
    if KEYS.is_file():
        key = json.loads(KEYS.read_text(encoding="utf-8"))["management"]["key"]
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=5) as response:
        workers = json.load(response)[0]["workers"]
    return 0 if any(worker["status"] == "READY" for worker in workers) else 1


if __name__ == "__main__":
    raise SystemExit(main())
