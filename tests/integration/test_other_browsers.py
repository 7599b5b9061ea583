"""The page in Firefox, and in WebKit, the engine of Safari: what everybody does with it."""
from __future__ import annotations

import base64
import threading
from contextlib import contextmanager
from typing import Callable, Iterator

import numpy as np
import pytest
import soundfile
from kws_page import (alert, check_microphone, check_offline, check_recording, check_sliders, check_takes, expected,
                      has_lost, listen, listen_until, ready, saved, seconds_heard, words)
from other_browsers import find_firefox, find_webkit, firefox, webkit
from picture_page import Page
from sound_server import ROOT, SoundServer, sound_server

pytestmark = pytest.mark.services

BROWSERS = {"Firefox": (find_firefox, firefox, "firefox-esr"),
            "WebKit": (find_webkit, webkit, "webkit2gtk-driver and xvfb")}
SHORT_GAP = 0.1  # seconds of sound that a busy machine may lose without a word from the page: LEAST of loss.js


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    """A room with a microphone."""
    with sound_server() as server:
        server.plug_in_microphone()
        yield server


@pytest.fixture(scope="module", params=BROWSERS)
def page(request: pytest.FixtureRequest, server: SoundServer, address: str,
         free_port: Callable[[], int]) -> Iterator[Page]:
    """The page in a browser that has the room's microphone; it starts so slowly that all tests use the same."""
    find, browser, packages = BROWSERS[request.param]
    if find() is None:
        pytest.skip(f"no {request.param}; Debian's {packages}")
    with browser(server.environment, free_port()) as page:
        print(f"{request.param} {page.version}")
        yield ready(page, address)


def test_a_recording_gives_what_listen_gives(page, spoken):
    check_recording(page, spoken)


def test_a_recording_may_be_dropped(page):
    path = ROOT / "docs/samples/five-words.flac"
    content = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(f"""(() => {{
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([Uint8Array.from(atob("{content}"), (c) => c.charCodeAt(0))], "dropped.flac"));
        document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer, bubbles: true }}));
    }})()""")
    page.wait_for("document.querySelector('#status').textContent === 'dropped.flac: "
                  f"{len(words(expected(path)))} words heard in 6.0 s.'")


def test_thresholds_are_set_by_sliders_and_taken_back(page):
    check_sliders(page, ROOT / "docs/samples/five-words.flac")


def test_a_file_that_is_no_sound_is_refused(page, tmp_path):
    (tmp_path / "a.wav").write_text("this is text")
    page.choose_files("#recording", tmp_path / "a.wav")
    assert alert(page).startswith("a.wav: is no sound that this browser can decode")


def test_the_microphone_gives_what_listen_gives(page, server, spoken):
    for _ in range(3):
        listen(page)
        server.play(spoken)
        listen_until(page, seconds_heard(page) + 2)
        found, lost = saved(page), has_lost(page)
        page.evaluate("document.querySelector('#microphone').click()")
        if not lost:
            break  # else this machine was too busy, and the page said so
    check_microphone(found, spoken, SHORT_GAP)


def test_takes_of_a_word_are_recorded_heard_again_and_saved(page, server, tmp_path):
    word = soundfile.read(ROOT / "docs/samples/stop.flac")[0]
    soundfile.write(tmp_path / "word.wav", np.concatenate([word * 0.7, np.zeros(16000 - len(word) % 16000)]), 16000)
    with again_and_again(lambda: server.play(tmp_path / "word.wav")):
        check_takes(page, tmp_path / "data", word)


@contextmanager
def again_and_again(act: Callable[[], None]) -> Iterator[None]:
    """Do something meanwhile, as often as there is time."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_it_works_without_the_server_once_it_was_opened(page, spoken):
    check_offline(page, spoken)


def test_without_a_microphone_the_page_says_what_helps(page, server):
    server.control("unload-module", "module-remap-source")
    server.control("unload-module", "module-null-sink")
    try:
        page.evaluate("document.querySelector('#microphone').click()")
        assert alert(page) == "There is no microphone. Connect one and try again, or choose a recording."
    finally:
        server.plug_in()
        server.plug_in_microphone()
