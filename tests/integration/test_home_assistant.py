"""A real Home Assistant with `kws serve-wyoming`: its form, its assistants, its automations."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import numpy as np
import pytest
import soundfile
from home_assistant import RATE, HomeAssistant

from kws.inference.listening import StreamModel, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE

pytestmark = pytest.mark.services

FIVE_WORDS, OTHER_WORD = Path("docs/samples/five-words.flac"), Path("docs/samples/cat.flac")


class Service:
    """`kws serve-wyoming` at an address that stays the same."""

    def __init__(self, port: int, *options: str) -> None:
        self.port = port
        self._command = [sys.executable, "-m", "kws", "serve-wyoming", "--model", str(SHIPPED),
                         "--uri", f"tcp://127.0.0.1:{port}", *options]

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None and self._process.stdout.readline().startswith(b"serving")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[HomeAssistant]:
    """Home Assistant as it is after its first page; $HASS names the program, or it is on the path."""
    program = os.environ.get("HASS") or shutil.which("hass")
    if program is None:
        pytest.skip("no Home Assistant; .ci/run installs it, and $HASS names its program `hass`")
    found = HomeAssistant(program, tmp_path_factory.mktemp("home"), free_port())
    try:
        found.begin()
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def service(free_port: Callable[[], int]) -> Iterator[Service]:
    found = Service(free_port())
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def added(home: HomeAssistant, service: Service) -> dict[str, Any]:
    """What follows when the form of the Wyoming integration is filled in."""
    return home.add_wyoming("127.0.0.1", service.port)


@pytest.fixture(scope="module")
def assistant(home: HomeAssistant, added: dict[str, Any]) -> Callable[[Optional[str]], str]:
    """assistant(word) -> id of an assistant with this wake word; None: with the engine, but no word of it."""
    def make(word: Optional[str]) -> str:
        with home.talk() as talk:  # an assistant that understands no speech is not let to wait for a word
            return str(talk.ask(
                "assist_pipeline/pipeline/create", name=f"for {word}", language="en",
                conversation_engine="conversation.home_assistant", conversation_language="en",
                stt_engine="stt.absent", stt_language="en", tts_engine=None, tts_language=None, tts_voice=None,
                wake_word_entity="wake_word.kws", wake_word_id=word)["id"])

    return make


def heard(home: HomeAssistant, assistant: str, sound: np.ndarray, **options: Any) -> dict[str, Any]:
    """What a run of an assistant ends with: its wake word, or its error."""
    with home.talk() as talk:
        events = dict(talk.speak(assistant, sound, **options))
    assert list(events)[:2] == ["run-start", "wake_word-start"] and list(events)[-1] == "run-end"
    return dict(events["error"] if "error" in events else events["wake_word-end"]["wake_word_output"])


def sound_of(path: Path) -> np.ndarray:
    sound, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    return np.asarray(sound)


def expected(home: HomeAssistant) -> dict[str, dict[str, Any]]:
    """What `kws listen` hears, as Home Assistant says it: word -> the event's data.

    Times are at most a hop of the model and a chunk of sound apart: Home Assistant filters sound before it sends it.
    """
    speed = 0.5 if home.version.startswith("2024.3.") else 1.0  # of its clock, which counts 5 ms for 10 ms of sound
    found = listen_to(StreamModel(SHIPPED / STREAM_FILE), FIVE_WORDS)
    return {each.word: {"wake_word_id": each.word, "wake_word_phrase": each.word,
                        "timestamp": pytest.approx(1000 * speed * each.time_seconds, abs=30)} for each in found}


def test_its_form_makes_an_entity_with_every_keyword(home: HomeAssistant, added: dict[str, Any]):
    assert (added["type"], added["title"], added["result"]["state"]) == ("create_entry", "kws", "loaded")
    with home.talk() as talk:
        entities = [entity for entity in talk.ask("config/entity_registry/list") if entity["platform"] == "wyoming"]
        words = talk.ask("wake_word/info", entity_id="wake_word.kws")["wake_words"]
    assert [entity["entity_id"] for entity in entities] == ["wake_word.kws"]
    keywords = StreamModel(SHIPPED / STREAM_FILE).labels.keywords
    assert words == [{"id": word, "name": word, "phrase": word} for word in keywords]


def test_it_wakes_when_kws_listen_hears_the_word(home: HomeAssistant, assistant: Callable[[Optional[str]], str]):
    """Without a word that is named, and with each of two, all at once."""
    known, names = expected(home), [None, "left", "up"]
    assistants = [assistant(name) for name in names]
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda each: heard(home, each, sound_of(FIVE_WORDS)), assistants))
    assert list(known) == ["go", "left", "up", "right"]
    assert found == [known[name or "go"] for name in names]


def test_other_words_wake_nothing(home: HomeAssistant, assistant: Callable[[Optional[str]], str]):
    assert heard(home, assistant("no"), sound_of(OTHER_WORD), timeout=3.0)["code"] == "wake-word-timeout"


def test_an_automation_starts(home: HomeAssistant, assistant: Callable[[Optional[str]], str]):
    before = home.state("wake_word.kws")
    heard(home, assistant("go"), sound_of(FIVE_WORDS))
    home.wait_for(lambda: home.state("wake_word.kws") != before)
    home.wait_for(lambda: home.state("input_boolean.spoken") == "on")


def test_it_works_again_when_the_service_is_back(home: HomeAssistant, service: Service,
                                                 assistant: Callable[[Optional[str]], str]):
    left = assistant("left")
    service.stop()
    assert heard(home, left, sound_of(FIVE_WORDS)) == {}
    service.start()
    assert heard(home, left, sound_of(FIVE_WORDS)) == expected(home)["left"]


def test_kws_listen_starts_automations_by_a_webhook(home: HomeAssistant):
    post = f"curl -sf -X POST {home.url}/api/webhook/kws-{{word}}"
    subprocess.run([sys.executable, "-m", "kws", "listen", str(FIVE_WORDS), "--model", str(SHIPPED), "--exec", post],
                   check=True, timeout=60, capture_output=True)
    home.wait_for(lambda: home.state("input_boolean.posted") == "on")


def test_it_finds_a_service_by_itself(home: HomeAssistant, free_port: Callable[[], int]):
    other = Service(free_port(), "--zeroconf")
    other.start()
    try:
        with home.talk() as talk:
            flow = home.wait_for(lambda: [each for each in talk.ask("config_entries/flow/progress")
                                          if f"-{other.port}." in each["context"].get("unique_id", "")])[0]
            assert (flow["handler"], flow["context"]["source"]) == ("wyoming", "zeroconf")
        entry = home.post(f"/api/config/config_entries/flow/{flow['flow_id']}", {})
        assert (entry["type"], entry["title"]) == ("create_entry", "kws")
    finally:
        other.stop()
