#!/usr/bin/env python
"""Make `import torchaudio` work beside any torch; `make setup` runs this once.

usage: python scripts/repair_torchaudio.py

torchaudio's wheel for Linux brings a compiled extension that links one CUDA release. Beside a CPU-only torch, or one
of another CUDA release, it cannot be loaded, and then torchaudio, and transformers with it, refuse to be imported.
Every transform is pure Python and needs none of it: where the extension is absent, torchaudio imports and works. So
an extension that does not load is set aside. Where it loads, nothing is touched.
"""
from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path


def import_fault() -> str:
    """Import torchaudio in a fresh process; return the last line of what went wrong, or an empty string."""
    done = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it crashed"])[-1]


def main() -> int:
    """Set the extension aside if it does not load, and check that this helps."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        print("error: torchaudio is not installed; `make setup` installs it", file=sys.stderr)
        return 2
    if not import_fault():
        return 0
    for extension in sorted((Path(spec.origin).parent / "lib").glob("*torchaudio*.so")):
        extension.rename(extension.with_suffix(".so.unloadable"))
    fault = import_fault()
    if fault:
        print(f"error: torchaudio cannot be imported: {fault}", file=sys.stderr)
        return 2
    print("torchaudio: its CUDA extension does not load beside this torch and was set aside; the transforms need none")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
