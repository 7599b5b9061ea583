"""The page in a real browser: it hears what `kws listen` hears, and says in words what it cannot use."""
from __future__ import annotations

import json
import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import onnx
import psutil
import pytest
import soundfile
import soxr
from kws_page import (HOP, alert, check_microphone, check_offline, check_recording, check_sliders, check_takes,
                      expected, has_lost, heard, listen, listen_until, ready, saved, words)
from picture_page import Chromium, browser, find_browser
from sound_server import ROOT

from kws.inference.listening import StreamModel, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE
from kws.web.site import write_site

pytestmark = [pytest.mark.services, pytest.mark.skipif(find_browser() is None, reason="no browser; Debian's package "
                                                       "chromium is one")]

SAMPLES = Path("docs/samples")
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def opened() -> Iterator[Chromium]:
    """A browser without a microphone, and the page in it."""
    with browser() as page:
        yield page


@pytest.fixture
def page(opened: Chromium, address: str) -> Chromium:
    """The page, as if just opened; what the browser complained of is an error."""
    ready(opened, address)
    return opened


@pytest.mark.parametrize("rate, channels, kind", [(16000, 1, "wav"), (44100, 2, "flac"), (8000, 1, "wav"),
                                                  (48000, 2, "ogg")])
def test_a_recording_gives_what_listen_gives(page, spoken, tmp_path, rate, channels, kind):
    samples = soxr.resample(soundfile.read(spoken)[0], 16000, rate)
    path = tmp_path / f"words.{kind}"
    soundfile.write(path, samples[:, None].repeat(channels, axis=1), rate)
    check_recording(page, path)


def test_a_browser_that_draws_nothing_off_the_screen_shows_all_of_it(address, spoken):
    with browser() as page:
        page.send("Page.addScriptToEvaluateOnNewDocument", source="delete self.OffscreenCanvas")
        ready(page, address)
        assert page.evaluate("typeof OffscreenCanvas") == "undefined"
        check_recording(page, spoken)


@pytest.mark.parametrize("rate, is_hidden", [(16000, False), (44100, True)], ids=["seen", "in the background"])
def test_the_microphone_gives_what_listen_gives(address, spoken, tmp_path, rate, is_hidden):
    path = tmp_path / "microphone.wav"
    soundfile.write(path, soxr.resample(soundfile.read(spoken)[0], 16000, rate), rate)
    for _ in range(3):
        with browser(*MICROPHONE, f"--use-file-for-fake-audio-capture={path}%noloop") as page:
            ready(page, address)
            if is_hidden:
                page.send("Target.createTarget", url="about:blank")
                page.wait_for("document.hidden")
            page.evaluate(WATCH_FRAMES)
            listen(page)
            listen_until(page, soundfile.info(path).duration + 1)
            found, gaps, lost = saved(page), np.array(page.evaluate("frames")), has_lost(page)
            page.evaluate("document.querySelector('#microphone').click()")
            assert page.evaluate("document.querySelector('#microphone').textContent") == "Listen to the microphone"
            assert page.complaints == []
        if not lost:
            break  # else this machine was too busy, and the page said so
    check_microphone(found, path, HOP + 0.001)
    if not is_hidden:
        print(f"frames: median {np.median(gaps):.1f} ms, 95 % within {np.percentile(gaps, 95):.1f} ms")
        assert np.median(gaps) < 50


WATCH_FRAMES = """
  var frames = [], before = performance.now();
  requestAnimationFrame(function note(now) { frames.push(now - before); before = now; requestAnimationFrame(note); });
"""


@pytest.mark.parametrize("options, permission, message", [
    (MICROPHONE[:1], "denied", "The microphone was refused."),
    (MICROPHONE[1:], "granted", "There is no microphone."),
], ids=["refused", "absent"])
def test_without_a_microphone_the_page_says_what_helps(address, options, permission, message):
    with browser(*options) as page:
        page.send("Browser.setPermission", permission={"name": "microphone"}, setting=permission, origin=address)
        ready(page, address)
        page.evaluate("document.querySelector('#microphone').click()")
        assert alert(page).startswith(message) and "recording" in alert(page)
        assert page.evaluate("document.querySelector('#microphone').textContent") == "Listen to the microphone"


def test_of_an_insecure_address_the_page_says_so_and_hears_recordings(address, spoken):
    port = address.rstrip("/").rpartition(":")[2]
    with browser("--host-resolver-rules=MAP kws.test 127.0.0.1", *MICROPHONE) as page:
        ready(page, f"http://kws.test:{port}/")
        page.evaluate("document.querySelector('#microphone').click()")
        assert "https://" in alert(page) and "http://kws.test" in alert(page)
        assert len(heard(page, spoken)) == len(expected(spoken)) and not page.complaints


def changed(path: Path, change: Any) -> Path:
    model = onnx.load(SHIPPED / STREAM_FILE)
    change(model)
    onnx.save(model, path)
    return path


def rename_input(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.input[:] = ["sound" if name == "samples" else name for name in node.input]
    model.graph.input[0].name = "sound"


def set_fact(key: str, value: str) -> Any:
    def change(model: onnx.ModelProto) -> None:
        facts = {item.key: item.value for item in model.metadata_props}
        onnx.helper.set_model_props(model, {**facts, key: value})
    return change


@pytest.mark.parametrize("name, make, message", [
    ("a.onnx", lambda path: path.write_text("this is text"), "a.onnx: is no ONNX file; expected stream.onnx"),
    ("model.onnx", lambda path: shutil.copy(SHIPPED / "model.onnx", path), "model.onnx: is a model for single clips"),
    ("b.onnx", lambda path: changed(path, lambda model: model.ClearField("metadata_props")), "(no labels)"),
    ("c.onnx", lambda path: changed(path, rename_input), "c.onnx: its inputs and outputs are sound,state ->"),
    ("d.onnx", lambda path: changed(path, set_fact("state_size", "17")), "d.onnx: does not run on"),
    ("e.onnx", lambda path: changed(path, set_fact("labels", '["a", "_unknown_", "_silence_"]')), "e.onnx: answers"),
    ("f.onnx", lambda path: changed(path, lambda model: model.ClearField("graph")), "f.onnx: cannot be loaded"),
], ids=["text", "for clips", "of another program", "other inputs", "other state", "other labels", "no graph"])
def test_a_file_that_is_no_model_is_refused_and_the_model_before_stays(page, tmp_path, spoken, name, make, message):
    make(tmp_path / name)
    page.choose_files("#model-file", tmp_path / name)
    assert message in alert(page)
    assert page.evaluate("document.querySelector('#status').textContent") == "The model before is in use."
    assert len(heard(page, spoken)) == len(expected(spoken))
    assert page.evaluate("document.querySelector('#alert').hidden")


def test_a_folder_of_another_program_is_refused(page, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    page.choose_files("#model-folder", folder)
    assert alert(page).startswith("bundle: no stream.onnx in this folder; found saved_model.pb.")


def test_a_model_of_ones_own_is_used(page, tmp_path, spoken):
    folder = tmp_path / "kws"
    folder.mkdir()
    own = [f"wort{n}" for n in range(len(StreamModel(SHIPPED / STREAM_FILE).labels.keywords))]
    rule = {"threshold": 0.0, "thresholds": {"wort0": 1.5}}
    changed(folder / STREAM_FILE, lambda model: [set_fact("detector", json.dumps(rule))(model), set_fact(
        "labels", json.dumps([*own, "_unknown_", "_silence_"]))(model)])
    page.choose_files("#model-folder", folder)
    page.wait_for("document.querySelector('#model-name').textContent === 'kws/stream.onnx'")
    assert page.evaluate("[...document.querySelectorAll('#words strong')].map((word) => word.textContent)") == own
    found = [item.as_record() for item in listen_to(StreamModel(folder / STREAM_FILE), spoken)]
    assert [(item["word"], item["time_s"]) for item in heard(page, spoken)] == [
        (item["word"], pytest.approx(item["time_s"], abs=0.0011)) for item in found]
    thresholds = page.evaluate("[...document.querySelectorAll('#words output')].map((value) => value.textContent)")
    assert thresholds == ["0.82", *["0.50"] * (len(own) - 1)]


@pytest.mark.parametrize("content", [b"", b"this is text", b"RIFF\x24\x00\x00\x00WAVEfmt "],
                         ids=["empty", "text", "broken off"])
def test_a_file_that_is_no_sound_is_refused(page, tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    page.choose_files("#recording", tmp_path / "a.wav")
    assert alert(page).startswith("a.wav: is no sound that this browser can decode")


def test_thresholds_are_set_by_sliders_and_taken_back(page):
    check_sliders(page, ROOT / "docs/samples/five-words.flac")


def test_it_works_without_the_server_once_it_was_opened(spoken):
    with browser() as page:
        check_offline(page, spoken)


def test_nothing_is_fetched_from_elsewhere(address, spoken):
    with browser() as page:
        ready(page, address)
        heard(page, spoken)
        assert page.requested and all(url.startswith((address, f"blob:{address}")) for url in page.requested)
        refused = page.evaluate("fetch('https://example.org/').then(() => 'sent', (error) => String(error))")
        assert refused.startswith("TypeError")
        assert any("Content Security Policy" in line for line in page.complaints)


def test_keyboard_and_screen_reader_reach_everything(page):
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "slider", "textbox", "DisclosureTriangle")
    controls = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
                if not node["ignored"] and node["role"]["value"] in roles]
    names = [name for _, name in controls]
    assert all(names) and len(set(names)) == len(names)
    assert {"Listen to the microphone", "Choose a recording", "Least confidence of yes"} <= set(names)
    assert page.evaluate("document.querySelector('#heard').getAttribute('aria-live')") == "polite"
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    focused = []
    for _ in range(40):
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    assert {"microphone", "recording", "Least confidence of yes", "model-file", "model-folder"} <= set(focused)


CONTROLS = "button, .button, summary, input:not([type=file])"
PLACES = f"""[...document.querySelectorAll("{CONTROLS}")].map((part) => {{
  part.scrollIntoView({{ block: "center" }});
  const {{ left, top, width, height }} = part.getBoundingClientRect();
  const [x, y] = [left + width / 2, top + height / 2];
  const found = document.elementFromPoint(x, y);
  return {{ text: part.outerHTML, x, y, width, height, isFree: part === found || part.contains(found) }};
}})"""


@pytest.mark.parametrize("width, height", [(320, 700), (390, 780), (740, 360), (1280, 700)])
def test_a_phone_shows_all_of_it_and_a_finger_reaches_it(page, width, height):
    page.look(width, height, 1, "light")
    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        for number in (1, 2):
            tap(page, f"details:nth-of-type({number}) summary")
        page.wait_for("[...document.querySelectorAll('details')].every((part) => part.open)")
        places = page.evaluate(PLACES)
        assert len(places) > 15 and [place["text"] for place in places if not place["isFree"]] == []
        assert [place["text"] for place in places if place["height"] < 44 or place["width"] < 44] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tap(page, "#words input")
        page.wait_for("document.querySelector('#words output').textContent === '0.52'")
    finally:
        page.send("Emulation.setTouchEmulationEnabled", enabled=False)
        page.send("Emulation.clearDeviceMetricsOverride")


def tap(page: Chromium, selector: str) -> None:
    """Touch the middle of something."""
    place = page.evaluate(f"""(() => {{
        const part = document.querySelector({json.dumps(selector)});
        part.scrollIntoView({{ block: "center", behavior: "instant" }});
        const {{ left, top, width, height }} = part.getBoundingClientRect();
        return {{ x: left + width / 2, y: top + height / 2 }};
    }})()""")
    page.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[place])
    page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def test_takes_of_a_word_are_recorded_heard_again_and_saved(address, tmp_path):
    word = soundfile.read(SAMPLES / "stop.flac")[0]
    soundfile.write(tmp_path / "a.wav", np.concatenate([word * 0.7, np.zeros(16000 - len(word) % 16000)]), 16000)
    with browser(*MICROPHONE, f"--use-file-for-fake-audio-capture={tmp_path / 'a.wav'}") as page:
        ready(page, address)
        check_takes(page, tmp_path / "data", word)


def drop(page: Chromium, *paths: Path) -> None:
    """Drop files or a folder, as with a mouse."""
    data = {"items": [], "files": [str(path.resolve()) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.send("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)


def test_files_and_folders_are_dropped(page, tmp_path, spoken):
    drop(page, spoken)
    page.wait_for("document.querySelector('#status').textContent.startsWith('words.wav: ')")
    drop(page, SHIPPED)
    page.wait_for("document.querySelector('#model-name').textContent === 'kws-8/stream.onnx'")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/weights.bin").touch()
    drop(page, tmp_path / "bundle")
    assert alert(page).startswith("bundle: no stream.onnx in this folder; found weights.bin.")


def test_of_several_recordings_those_that_are_none_are_named(page, tmp_path, spoken):
    texts = [tmp_path / name for name in ("a.wav", "b.wav")]
    for path in texts:
        path.write_text("this is text")
    drop(page, texts[0], spoken, texts[1])
    page.wait_for("document.querySelector('#alert').textContent.includes('b.wav')")
    assert alert(page).count("is no sound that this browser can decode") == 2 and alert(page).startswith("a.wav: ")
    assert words(saved(page)) == words(expected(spoken))


def test_who_asks_for_the_microphone_waits_for_no_recording(address, spoken, tmp_path):
    copies = [Path(shutil.copy(spoken, tmp_path / f"{number}.wav")) for number in range(5)]
    with browser(*MICROPHONE) as page:
        ready(page, address)
        drop(page, *copies)
        listen(page)
        listen_until(page, 3)
        assert page.evaluate("document.querySelector('#status').textContent") == "Listening."
        assert not {found["path"] for found in saved(page)} & {copies[-1].name}


def test_the_written_folder_works_below_a_path_of_a_plain_host(opened, spoken, tmp_path):
    write_site(SHIPPED, tmp_path / "kws")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            ready(opened, f"http://127.0.0.1:{server.server_port}/kws/")
            assert words(heard(opened, spoken)) == words(expected(spoken)) and opened.complaints == []
            assert opened.evaluate("navigator.serviceWorker.ready.then(({ scope }) => scope)").endswith("/kws/")
        finally:
            server.shutdown()
            thread.join()


def test_sound_that_does_not_come_is_told_and_counted(address):
    """The browser's process for sound stands still for a while."""
    with browser(*MICROPHONE) as page:
        ready(page, address)
        listen(page)
        listen_until(page, 3)
        sound, = (process for process in psutil.process_iter(["cmdline"]) if "audio.mojom.AudioService" in str(
            process.info["cmdline"]) and str(page.profile) in str(process.info["cmdline"]))
        sound.suspend()
        since = time.monotonic()
        assert alert(page).startswith("No sound comes from the microphone")
        sound.resume()
        seconds = time.monotonic() - since
        page.wait_for("document.querySelector('#time').textContent.includes('lost')")
        assert page.evaluate("document.querySelector('#alert').hidden")
        lost = page.evaluate("parseFloat(document.querySelector('#time').textContent.split(', ')[1])")
        assert 2.0 <= lost <= seconds + 2.0


def test_a_microphone_that_is_taken_away_is_told(address):
    with browser(*MICROPHONE[:1]) as page:
        page.send("Browser.setPermission", permission={"name": "microphone"}, setting="granted", origin=address)
        ready(page, address)
        page.evaluate("document.querySelector('#microphone').click()")
        page.wait_for("document.querySelector('#status').textContent.startsWith('Listening')")
        page.send("Browser.setPermission", permission={"name": "microphone"}, setting="denied", origin=address)
        assert alert(page).startswith("The microphone is gone.")
        assert page.evaluate("document.querySelector('#microphone').textContent") == "Listen to the microphone"
