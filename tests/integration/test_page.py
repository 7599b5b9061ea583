"""The page in a real browser: it hears what `kws listen` hears, and says in words what it cannot use."""
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import wave
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import onnx
import pytest
import soundfile
import soxr
from picture_page import Page, browser, find_browser

from kws.inference.listening import StreamModel, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE

pytestmark = pytest.mark.services

SAMPLES = Path("docs/samples")
HOP = 0.02
READY = "document.querySelector('#recording')?.disabled === false"
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where `kws demo` offers the page."""
    with served() as address:
        yield address


@contextmanager
def served(*options: str) -> Iterator[str]:
    if find_browser() is None:
        pytest.skip("no browser; Debian's package chromium is one")
    if shutil.which("npm") is None:
        pytest.skip("no npm; Debian's package npm is one")
    process = subprocess.Popen([sys.executable, "-m", "kws", "demo", "--port", "0", *options], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        if not line and "is there a network?" in (errors := process.communicate()[1]):
            pytest.skip(errors)
        yield line.split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def opened(address: str) -> Iterator[Page]:
    """A browser without a microphone, and the page in it."""
    with browser() as page:
        yield page


@pytest.fixture
def page(opened: Page, address: str) -> Page:
    """The page, as if just opened; what the browser complained of is an error."""
    return ready(opened, address)


def ready(page: Page, address: str) -> Page:
    page.open("about:blank")
    page.open(address)
    page.wait_for(READY)
    page.complaints.clear()
    return page


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words with pauses, after 2 s of silence: 12 s, 16 kHz."""
    pieces = [np.zeros(32000)]
    for name in ("five-words", "stop", "yes", "cat", "left"):
        pieces += [soundfile.read(SAMPLES / f"{name}.flac")[0], np.zeros(4800)]
    path = tmp_path_factory.mktemp("spoken") / "words.wav"
    soundfile.write(path, np.concatenate([*pieces, np.zeros(8000)]), 16000)
    return path


def expected(path: Path) -> list[dict[str, Any]]:
    """What `kws listen` hears."""
    return [found.as_record() for found in listen_to(StreamModel(SHIPPED / STREAM_FILE), path)]


def heard(page: Page, recording: Path) -> list[dict[str, Any]]:
    """What the page hears in a recording."""
    page.evaluate("document.querySelector('#clear').click()")
    page.choose_files("#recording", recording)
    page.wait_for(f"document.querySelector('#status').textContent.startsWith({json.dumps(recording.name)}) && "
                  "document.querySelector('#status').textContent.includes(' heard in ')")
    return saved(page)


def saved(page: Page) -> list[dict[str, Any]]:
    """The list that the page offers as a file; [] where it offers none."""
    if page.evaluate("document.querySelector('#save').disabled"):
        return []
    return [json.loads(line) for line in download(page, "save", "heard.jsonl").read_text("utf-8").splitlines()]


def download(page: Page, button: str, name: str) -> Path:
    folder = Path(page.profile) / "downloads"
    shutil.rmtree(folder, ignore_errors=True)
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.evaluate(f"document.querySelector('#{button}').click()")
    end = time.monotonic() + 30
    while not (folder / name).exists() and time.monotonic() < end:
        time.sleep(0.05)
    return folder / name


def alert(page: Page) -> str:
    return str(page.wait_for("document.querySelector('#alert').textContent"))


@pytest.mark.parametrize("rate, channels, kind", [(16000, 1, "wav"), (44100, 2, "flac"), (8000, 1, "wav"),
                                                  (48000, 2, "ogg")])
def test_a_recording_gives_what_listen_gives(page, spoken, tmp_path, rate, channels, kind):
    samples = soxr.resample(soundfile.read(spoken)[0], 16000, rate)
    path = tmp_path / f"words.{kind}"
    soundfile.write(path, samples[:, None].repeat(channels, axis=1), rate)
    found, wanted = heard(page, path), expected(path)
    assert [item["word"] for item in found] == [item["word"] for item in wanted] and len(wanted) >= 4
    exact = rate == 16000
    for mine, theirs in zip(found, wanted):
        assert mine.pop("path") == path.name and mine.keys() == theirs.keys()
        for key in ("start_s", "end_s", "time_s"):
            assert mine[key] == pytest.approx(theirs[key], abs=0.0011 if exact else HOP + 0.001)
        assert mine["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4 if exact else 0.05)
    shown = page.evaluate("[...document.querySelectorAll('#heard li')].map((item) => item.innerText).reverse()")
    assert len(shown) == len(found) and all(item["word"] in line for item, line in zip(found, shown))
    assert page.complaints == []


@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_microphone_gives_what_listen_gives(address, spoken, tmp_path, rate):
    path = tmp_path / "microphone.wav"
    soundfile.write(path, soxr.resample(soundfile.read(spoken)[0], 16000, rate), rate)
    with browser(*MICROPHONE, f"--use-file-for-fake-audio-capture={path}%noloop") as page:
        ready(page, address)
        wanted = expected(path)
        page.evaluate(WATCH_FRAMES)
        page.evaluate("document.querySelector('#microphone').click()")
        page.wait_for(f"document.querySelectorAll('#heard li').length >= {len(wanted)}")
        time.sleep(1)
        found, status = saved(page), page.evaluate("document.querySelector('#status').textContent")
        gaps = np.array(page.evaluate("frames"))
        page.evaluate("document.querySelector('#microphone').click()")
        assert page.evaluate("document.querySelector('#microphone').textContent") == "Listen to the microphone"
        assert page.complaints == []
    assert [item["word"] for item in found] == [item["word"] for item in wanted]
    shifts = np.array([mine["time_s"] - theirs["time_s"] for mine, theirs in zip(found, wanted)])
    print(f"the page begins {-np.median(shifts):.2f} s after the file; differences {shifts - np.median(shifts)}; {status}; "
          f"frames: median {np.median(gaps):.1f} ms, 95 % within {np.percentile(gaps, 95):.1f} ms")
    assert np.abs(shifts - np.median(shifts)).max() <= HOP + 0.001
    assert "lost" not in status


WATCH_FRAMES = """
  var frames = [], before = performance.now();
  requestAnimationFrame(function note(now) { frames.push(now - before); before = now; requestAnimationFrame(note); });
"""
