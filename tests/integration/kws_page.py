"""What a user does with the page, in any browser, and what then has to be seen."""
from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import wave
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

import numpy as np
import pytest
import soundfile
from picture_page import Page

from kws.audio.blocks import recording_blocks
from kws.data.layout import scan
from kws.inference.detector import with_thresholds
from kws.inference.listening import StreamModel, listen as listen_in, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE
from kws.model.labels import LabelSet

HOP = 0.02  # seconds between two answers of the model
READY = "document.querySelector('#recording')?.disabled === false"


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Where `kws demo` offers the page."""
    if shutil.which("npm") is None:
        pytest.skip("no npm; Debian's package npm is one")
    process = subprocess.Popen([sys.executable, "-m", "kws", "demo", "--port", "0", "--model", str(SHIPPED),
                                *options], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        errors = process.communicate()[1]
        assert "is there a network?" in errors, errors
        pytest.skip(errors)
    try:
        yield line.split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def ready(page: Page, address: str) -> Page:
    """The page, as if just opened; what the browser complained of before is forgotten."""
    page.open("about:blank")
    page.open(address)
    page.wait_for(READY)
    page.complaints.clear()
    return page


def expected(path: Path, threshold: Optional[float] = None) -> list[dict[str, Any]]:
    """What `kws listen` hears, with the least confidence that ships or with another one."""
    model = StreamModel(SHIPPED / STREAM_FILE)
    settings = with_thresholds(model.settings, model.labels, threshold, {})
    return [found.as_record() for found in listen_to(model, path, settings=settings)]


def words(detections: list[dict[str, Any]]) -> list[str]:
    """The words of detections."""
    return [found["word"] for found in detections]


def heard(page: Page, recording: Path) -> list[dict[str, Any]]:
    """What the page hears in a recording."""
    page.evaluate("document.querySelector('#clear').click(), document.querySelector('#status').textContent = ''")
    page.choose_files("#recording", recording)
    page.wait_for(f"document.querySelector('#status').textContent.startsWith({json.dumps(recording.name)}) && "
                  "document.querySelector('#status').textContent.includes(' heard in ')")
    return saved(page)


def listen(page: Page) -> None:
    """Let the page hear the microphone, from an empty list on; return once it does."""
    page.evaluate("document.querySelector('#clear').click(), document.querySelector('#microphone').click()")
    page.wait_for("document.querySelector('#time').textContent")


def listen_until(page: Page, seconds: float) -> None:
    """Wait until the page has heard so much."""
    page.wait_for(f"parseInt(document.querySelector('#time').textContent) >= {seconds}")


def seconds_heard(page: Page) -> int:
    """How much of a sound the page has heard."""
    return int(page.evaluate("parseInt(document.querySelector('#time').textContent)"))


def has_lost(page: Page) -> bool:
    """Whether the page says that sound did not come."""
    return "lost" in page.evaluate("document.querySelector('#time').textContent")


def saved(page: Page) -> list[dict[str, Any]]:
    """The list that the page offers as a file; [] where it offers none."""
    if page.evaluate("document.querySelector('#save').disabled"):
        return []
    return [json.loads(line) for line in download(page, "save", "heard.jsonl").read_text("utf-8").splitlines()]


def download(page: Page, button: str, name: str) -> Path:
    """Press a button, and return the file that comes, whole."""
    folder = page.profile / "downloads"
    for old in folder.glob("*"):
        old.unlink()
    page.evaluate(f"document.querySelector('#{button}').click()")
    end = time.monotonic() + 30
    while not ([path.name for path in folder.glob("*")] == [name] and (folder / name).stat().st_size):
        assert time.monotonic() < end, f"{name}: not downloaded; there: {list(folder.glob('*'))}"
        time.sleep(0.05)
    return folder / name


def alert(page: Page) -> str:
    """What the page says is wrong, once it does."""
    return str(page.wait_for("document.querySelector('#alert').textContent"))


def check_recording(page: Page, path: Path) -> None:
    """The page has to hear in a recording what `kws listen` hears, and to show it."""
    rate = soundfile.info(path).samplerate
    exact = rate == 16000  # else the browser resamples, and Python in another way
    least = 0.65 if rate < 16000 else None  # words that lack half of the band come close to what ships, not to this
    if least is not None:
        page.evaluate(f"""for (const slider of document.querySelectorAll('[aria-label^="Least confidence of"]')) {{
            slider.value = {least};
            slider.dispatchEvent(new Event("input"));
        }}""")
    found, wanted = heard(page, path), expected(path, least)
    assert words(found) == words(wanted) and len(wanted) >= 4
    for mine, theirs in zip(found, wanted):
        assert mine.pop("path") == path.name and mine.keys() == theirs.keys()
        for key in ("start_s", "end_s", "time_s"):
            assert mine[key] == pytest.approx(theirs[key], abs=0.0011 if exact else HOP + 0.001)
        assert mine["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4 if exact else 0.05)
    shown = page.evaluate("[...document.querySelectorAll('#heard li')].map((item) => item.innerText).reverse()")
    assert len(shown) == len(found) and all(item["word"] in line for item, line in zip(found, shown))
    assert page.complaints == []


def check_microphone(found: list[dict[str, Any]], recording: Path, most: float) -> None:
    """What a microphone gave has to be what `kws listen` hears in the file, but for when it was switched on.

    Where in a step of 20 ms that was, nobody knows: at some part of a step the answers have to agree.
    """
    model = StreamModel(SHIPPED / STREAM_FILE)
    sound = np.concatenate(list(recording_blocks(recording, model.sample_rate)))
    apart = {}
    for part in range(0, model.step_samples, 16):
        wanted = list(listen_in(model, [np.concatenate([np.zeros(part, np.float32), sound])]))
        if words(found) == [detection.word for detection in wanted]:
            shifts = [mine["time_s"] - theirs.time_seconds for mine, theirs in zip(found, wanted)]
            apart[part] = (max(shifts) - min(shifts)) / 2
    print(f"seconds apart, by the samples after which the file begins: {apart}")
    assert min(apart.values(), default=np.inf) <= most


def check_offline(page: Page, recording: Path) -> None:
    """The page has to work without its server once it was opened."""
    with served() as address:
        ready(page, address)
        page.wait_for("navigator.serviceWorker.ready.then(() => true)")
        page.wait_for("caches.open('kws').then((cache) => cache.keys()).then((keys) => keys.length > 20)")
    for entrance in (f"{address}index.html", address):
        ready(page, entrance)
    assert words(heard(page, recording)) == words(expected(recording))


def check_sliders(page: Page, recording: Path) -> None:
    """A slider moved has to count, and its threshold to be taken back."""
    before, most = words(heard(page, recording)), 0.99
    model = StreamModel(SHIPPED / STREAM_FILE)
    surest = {found.word for found in listen_to(model, recording, settings=model.settings.at_least(most))}
    refused = next(word for word in before if word not in surest)
    page.evaluate(f"""(() => {{
        const slider = document.querySelector('[aria-label="Least confidence of {refused}"]');
        slider.value = {most};
        slider.dispatchEvent(new Event("input"));
    }})()""")
    assert words(heard(page, recording)) == [word for word in before if word != refused]
    page.evaluate("document.querySelector('#thresholds-reset').click()")
    assert words(heard(page, recording)) == before


def check_takes(page: Page, folder: Path, word: np.ndarray) -> None:
    """Takes have to be recorded, heard again, deleted and saved, while a word is said to the page again and again.

    Args:
        folder: for the archive's content.
        word: [T] the word, at 16 kHz.
    """
    page.evaluate("document.querySelector('#takes').open = true, document.querySelector('[name=word]').value = 'öl'")
    page.evaluate("document.querySelector('#takes-record').click()")
    page.wait_for("document.querySelectorAll('#takes li').length >= 4")
    page.evaluate("document.querySelector('#takes-record').click()")
    shown = "[...document.querySelectorAll('#takes li')].map((item) => item.innerText.split(',')[0])"
    first, second, third = page.evaluate(shown)[:3]
    page.evaluate(f"document.querySelector('[aria-label=\"Hear {first}\"]').click()")
    page.evaluate(f"document.querySelector('[aria-label=\"Delete {second}\"]').click()")
    with zipfile.ZipFile(download(page, "takes-save", "takes.zip")) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(folder)
    assert page.complaints == []
    assert names[:2] == [first, third]
    start = int(re.fullmatch(r"öl/me_nohash_(\d+).wav", first)[1])
    assert abs(start - time.time()) < 3600, "takes of another visit have other names"
    layout = scan(folder, LabelSet.from_keywords(["öl"]))
    assert layout.clips["path"].tolist() == names and set(layout.clips["speaker"]) == {"me"} and not layout.passed_over
    for name in names:
        with wave.open(str(folder / name)) as take:
            assert (take.getframerate(), take.getnchannels(), take.getsampwidth()) == (16000, 1, 2)
            assert take.getnframes() == 16000
        samples = soundfile.read(folder / name)[0]
        assert np.corrcoef(np.abs(np.fft.rfft(samples)), np.abs(np.fft.rfft(word, 16000)))[0, 1] > 0.5, name
