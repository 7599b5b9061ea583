"""The command that offers the page: the folder it writes, what it sends, what it cannot do without."""
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from kws.model.folder import SHIPPED, STREAM_FILE
from kws.web.site import runtime_folder

RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path, cache):
    """The page, written with stand-ins of ONNX Runtime's files, which need a network."""
    runtime_folder().mkdir(parents=True)
    for name in RUNTIME:
        (runtime_folder() / name).write_text("export {};")
    assert main(["demo", "--write", str(tmp_path / "site")]) == EXIT_OK
    return tmp_path / "site"


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(stat.S_IRWXU)


def test_the_folder_holds_what_its_files_ask_for(site):
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert (site / "model" / STREAM_FILE).read_bytes() == (SHIPPED / STREAM_FILE).read_bytes()
    for path in site.glob("*.js"):
        for asked in re.findall(r"(?:from |URL\()\"\./([^\"]*[^/])\"", path.read_text()):
            assert asked in files, path
    for asked in re.findall(r"(?:href|src)=\"([^\"]+)\"", (site / "index.html").read_text()):
        assert asked in files
    ids = set(re.findall(r"\bid=\"([\w-]+)\"", (site / "index.html").read_text()))
    assert set(re.findall(r"\bat\(\"([\w-]+)\"\)", (site / "page.js").read_text())) <= ids


def test_its_files_are_new_to_a_browser_that_knows_another_installation(site, cache):
    now = min(path.stat().st_mtime for path in cache.rglob("*"))
    assert min(path.stat().st_mtime for path in site.rglob("*")) >= now > (SHIPPED / STREAM_FILE).stat().st_mtime


def test_all_of_it_is_kept_for_the_time_without_a_network(site):
    listed = re.search(r"FILES = \[(.*?)\]", (site / "offline.js").read_text(), re.S)[1]
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert set(re.findall(r"\"([^\"]+)\"", listed)) == (files - {"offline.js"}) | {"./"}


def test_nothing_is_inline_and_nothing_is_from_elsewhere(site):
    page = (site / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", page)
    for path in [*site.glob("*.js"), site / "index.html", site / "style.css"]:
        assert not re.search(r"https?://(?!localhost)[\w.]+/", path.read_text()), path


def test_a_folder_that_exists_is_left_alone(site, capsys):
    assert main(["demo", "--write", str(site)]) == EXIT_BAD_INPUT
    assert f"{site}: exists" in capsys.readouterr().err


def test_a_model_for_clips_only_is_refused(tmp_path, cache, capsys):
    assert main(["demo", "--model", str(tmp_path), "--write", str(tmp_path / "site")]) == EXIT_BAD_INPUT
    assert f"{tmp_path}/stream.onnx: no such file; `kws export`" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_without_npm_one_line_says_what_helps(tmp_path, cache, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["demo", "--write", str(tmp_path / "site")]) == EXIT_BAD_INPUT
    error, = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "needs npm" in error and "apt-get install npm" in error
    assert not (tmp_path / "site").exists() and not list(cache.rglob("*.wasm"))


def test_without_a_network_one_line_says_so(tmp_path, cache, monkeypatch, capsys):
    program(tmp_path / "bin", "npm", "echo 'npm error code ENOTFOUND' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert main(["demo", "--write", str(tmp_path / "site")]) == EXIT_BAD_INPUT
    assert "npm cannot fetch onnxruntime-web (npm error code ENOTFOUND); is there a network?" in capsys.readouterr().err
    assert not runtime_folder().exists()


def test_a_taken_port_is_told(site, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == EXIT_BAD_INPUT
    assert f"127.0.0.1:{port}: cannot be used" in capsys.readouterr().err


def test_it_is_offered_with_what_browsers_must_know(site):
    process = subprocess.Popen([sys.executable, "-m", "kws", "demo", "--port", "0", "--model", str(SHIPPED)],
                               text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    address = process.stdout.readline().split()[0]
    policy = re.search(r"Content-Security-Policy\" content=\"([^\"]+)", (site / "index.html").read_text())[1]
    kinds = {"": "text/html", "page.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml",
             "onnxruntime/ort-wasm-simd-threaded.mjs": "text/javascript",
             "onnxruntime/ort-wasm-simd-threaded.wasm": "application/wasm",
             "model/stream.onnx": "application/octet-stream"}
    for path, kind in kinds.items():
        with urllib.request.urlopen(f"{address}{path}") as answer:
            assert answer.headers["Content-Type"] == kind, path
            assert answer.headers["Content-Security-Policy"] == policy and answer.headers["Cache-Control"] == "no-cache"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}../../etc/passwd")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (EXIT_INTERRUPTED, "", "error: interrupted\n")
