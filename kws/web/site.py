"""A folder that any web server can offer: the page, ONNX Runtime for browsers, a model."""
from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kws.errors import DataError
from kws.files.atomic import atomic_folder
from kws.inference.listening import StreamModel
from kws.model.folder import STREAM_FILE

_HERE = Path(__file__).parent
_PAGE, _PACKAGE, _LOCK = _HERE / "page", _HERE / "package.json", _HERE / "package-lock.json"
_RUNTIME = "onnxruntime-web"
# Of its 150 MB: WebAssembly on the processor.
_RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")

logger = logging.getLogger(__name__)


def write_site(model: Path, folder: Path) -> None:
    """Write the page around a model into an empty folder.

    Args:
        model: folder with a stream.onnx.

    Raises:
        ModelError: if the model cannot hear running sound.
        DataError: "no_page" if this installation has no page; "no_runtime" if ONNX Runtime cannot be fetched.
    """
    StreamModel(model / STREAM_FILE)
    if not (_PAGE / "index.html").is_file():
        raise DataError(f"{_PAGE}: no page there; a wheel of kws and its repository have it", "no_page")
    _fetch_runtime(runtime_folder())
    # Of the time of this copy: browsers keep a file of another installation for one that is older.
    shutil.copytree(_PAGE, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    shutil.copytree(runtime_folder(), folder / "onnxruntime", copy_function=shutil.copyfile)
    (folder / "model").mkdir()
    shutil.copyfile(model / STREAM_FILE, folder / "model" / STREAM_FILE)


def runtime_folder() -> Path:
    """Return where ONNX Runtime for browsers is kept for all projects of a user, whether it is there or not."""
    version = json.loads(_PACKAGE.read_text(encoding="utf-8"))["dependencies"][_RUNTIME]
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kws" / f"{_RUNTIME}-{version}"


def _fetch_runtime(folder: Path) -> None:
    """Fetch ONNX Runtime for browsers, once."""
    if folder.is_dir():
        return
    with tempfile.TemporaryDirectory() as work:
        dist = _install(Path(work)) / _RUNTIME / "dist"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as target:
            for name in _RUNTIME_FILES:
                shutil.copyfile(dist / name, target / name)


def _install(folder: Path) -> Path:
    """Install what package-lock.json pins; npm compares its sums."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("the page needs npm, once, to fetch ONNX Runtime for browsers, and it is not installed "
                        "(Debian, Ubuntu: apt-get install npm)", "no_runtime")
    logger.warning("fetching ONNX Runtime for browsers with npm, once")
    for path in (_PACKAGE, _LOCK):
        shutil.copy(path, folder)
    done = subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")
        raise DataError(f"npm cannot fetch {_RUNTIME} ({reason}); is there a network?", "no_runtime")
    return folder / "node_modules"
