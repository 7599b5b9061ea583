"""Commands on a real path of sound: a sound server whose loudspeaker is the microphone, as PortAudio sees it."""
from __future__ import annotations

import glob
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_server import SECONDS, SoundServer, sound_server, wait_for

from kws.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["go", "left", "up", "right"]  # what is found in the recording


@pytest.fixture
def server():
    pytest.importorskip("sounddevice")
    if not glob.glob("/usr/lib/*/libportaudio.so.2") or \
            not glob.glob("/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so"):
        pytest.skip("PortAudio reaches no sound server; Debian's packages libportaudio2 libasound2-plugins")
    with sound_server() as server:
        yield server


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """The sample of the documentation, in a format that paplay takes, and stereo."""
    samples, rate = soundfile.read(ROOT / "docs/samples/five-words.flac")
    path = tmp_path_factory.mktemp("sound") / "words.wav"
    soundfile.write(path, np.stack([samples, samples], axis=1), rate)
    return path


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """One word, five times, in a quiet room."""
    word, rate = soundfile.read(ROOT / "docs/samples/stop.flac")
    sound = np.concatenate([part for _ in range(5) for part in (np.zeros(rate // 2), word)] + [np.zeros(rate)])
    path = tmp_path_factory.mktemp("sound") / "takes.wav"
    soundfile.write(path, sound + 1e-3 * np.random.default_rng(0).standard_normal(len(sound)), rate)
    return path


def only_error(told: str) -> str:
    """The one line of the error; before it, which model hears."""
    model, error = told.splitlines()
    assert "the shipped model is used" in model and error.startswith("error: ")
    return error


class Listening:
    """A running `kws listen`."""

    def __init__(self, server: SoundServer, *arguments: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "kws", "listen", "--format", "jsonl", *arguments],
                                        env=server.environment, cwd=server.folder, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.events: list[dict] = []
        self.messages: list[str] = []
        self.threads = [threading.Thread(target=self._read_events), threading.Thread(target=self._read_messages)]
        for thread in self.threads:
            thread.start()
        wait_for(lambda: "source-output" in server.control("list", "source-outputs").lower().replace(" ", "-"),
                 "the recording to start")
        time.sleep(2.5)  # a sound server needs a while for its first samples

    def _read_events(self) -> None:
        self.events += (json.loads(line) for line in iter(self.process.stdout.readline, ""))

    def _read_messages(self) -> None:
        for line in self.process.stderr:
            self.messages.append(line)

    def stop(self, sent: int = signal.SIGTERM) -> None:
        self.process.send_signal(sent)
        self.process.wait(SECONDS)
        for thread in self.threads:
            thread.join()
        assert self.process.returncode == EXIT_INTERRUPTED
        assert self.messages[-1] == "error: interrupted\n" and "Traceback" not in "".join(self.messages)


def test_words_that_are_played_are_heard_and_the_microphone_may_be_pulled_out(server, recording, tmp_path):
    listening = Listening(server, "--threshold", "0.7", "--save-detections", str(tmp_path))
    server.play(recording)
    wait_for(lambda: len(list(tmp_path.glob("*.wav"))) >= len(WORDS), "the words")
    server.control("unload-module", "module-null-sink")
    wait_for(lambda: any("waiting for it" in line for line in listening.messages), "the loss to be told")
    time.sleep(3)
    server.plug_in()
    wait_for(lambda: any("is back" in line for line in listening.messages), "the microphone to be found again")
    time.sleep(2)
    server.play(recording)
    wait_for(lambda: len(list(tmp_path.glob("*.wav"))) >= 2 * len(WORDS), "the words again")
    listening.stop()
    assert [event["word"] for event in listening.events] == 2 * WORDS
    first, second = listening.events[:len(WORDS)], listening.events[len(WORDS):]
    distances = [[after["time_s"] - before["time_s"] for before, after in zip(half, half[1:])]
                 for half in (first, second)]
    assert np.allclose(distances[0], distances[1], atol=0.15), "the words lie as they do in the recording"
    assert second[0]["time_s"] - first[-1]["time_s"] > 5, "time went on while the microphone was away"
    assert sum("waiting for it" in line for line in listening.messages) == 1
    for path in tmp_path.glob("*.wav"):
        samples, rate = soundfile.read(path)
        assert rate == 16000 and len(samples) == 16000 and np.abs(samples).max() > 0.05, path


def test_a_microphone_that_gives_nothing_without_an_error_is_opened_again(server, recording):
    listed = subprocess.run([sys.executable, "-m", "kws", "listen", "--list-devices"], env=server.environment,
                            text=True, capture_output=True, check=True, cwd=server.folder).stdout
    index, = (line.split()[0] for line in listed.splitlines() if " room (" in line)
    listening = Listening(server, "--device", index)
    server.control("suspend-sink", "room", "1")
    wait_for(lambda: any("waiting for it" in line for line in listening.messages), "the silence to be noticed")
    server.control("suspend-sink", "room", "0")
    wait_for(lambda: any("is back" in line for line in listening.messages), "the microphone to be found again")
    for _ in range(3):  # a busy machine plays with gaps
        before = len(listening.events)
        time.sleep(1)
        server.play(recording)
        time.sleep(3)  # until the last word is told
        heard = [event["word"] for event in listening.events[before:]]
        if heard == WORDS:
            break
    listening.stop(signal.SIGINT)
    assert heard == WORDS, listening.messages


def test_devices_are_listed_and_chosen_by_name(server):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "kws", "listen", *arguments], env=server.environment, text=True,
                              capture_output=True, timeout=SECONDS, cwd=server.folder)

    listed = run("--list-devices")
    assert listed.returncode == 0 and "room (" in listed.stdout and "* default (" in listed.stdout
    absent = run("--device", "nowhere")
    assert absent.returncode == EXIT_BAD_INPUT
    assert "nowhere" in only_error(absent.stderr) and "room" in only_error(absent.stderr)


def test_a_machine_without_a_microphone_is_told_in_one_line(server):
    server.control("unload-module", "module-null-sink")
    done = subprocess.run([sys.executable, "-m", "kws", "listen", "--device", "room"], env=server.environment,
                          text=True, capture_output=True, timeout=SECONDS, cwd=server.folder)
    assert done.returncode == EXIT_BAD_INPUT and "cannot be opened" in only_error(done.stderr)


class Recording:
    """A running `kws record` of "word" by anna, on a terminal of its own."""

    def __init__(self, server: SoundServer, *arguments: str) -> None:
        self.terminal, theirs = pty.openpty()
        command = [sys.executable, "-m", "kws", "record", "word", "--speaker", "anna", *arguments]
        self.process = subprocess.Popen(command, env=server.environment, cwd=server.folder, stdin=theirs, stdout=theirs,
                                        stderr=theirs)
        os.close(theirs)
        self.shown = ""
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        self.wait_for("say: word 1/")
        self.folder = server.folder / "my-recordings"

    def _read(self) -> None:
        try:
            while piece := os.read(self.terminal, 1000):
                self.shown += piece.decode()
        except OSError:  # the other end is closed
            pass

    def press(self, key: str) -> None:
        os.write(self.terminal, key.encode())

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.shown, f"{text} in {self.shown}")

    def clips(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "word").glob("*"))

    def end(self) -> int:
        self.process.wait(SECONDS)
        self.thread.join()
        os.close(self.terminal)
        return self.process.returncode


def test_takes_are_recorded_from_a_microphone(server, takes):
    recorder = Recording(server, "--takes", "4")
    server.play(takes)
    assert recorder.end() == EXIT_OK, recorder.shown
    assert recorder.clips() == [f"anna_nohash_{number}.wav" for number in range(4)]
    for name in recorder.clips():
        samples, rate = soundfile.read(recorder.folder / "word" / name)
        whole, _ = soundfile.read(recorder.folder / "_takes_/word" / name)
        assert rate == 16000 and 0.9 < len(samples) / rate <= 1.0 and len(whole) >= len(samples)
        loud = np.flatnonzero(np.abs(samples) > 0.05) / rate
        assert 0.1 < loud[0] < loud[-1] < 0.95, "the word is whole, and in the middle"


def test_keys_play_and_remove_takes_and_stop(server, takes):
    recorder = Recording(server, "--takes", "9")
    server.play(takes)
    recorder.wait_for("say: word 6/9")
    recorder.press("p")
    time.sleep(3)
    recorder.wait_for("say: word 6/9")
    assert "cannot be played" not in recorder.shown
    assert len(recorder.clips()) == 5, "what is played is not recorded"
    recorder.press("r")
    recorder.wait_for("removed: my-recordings/word/anna_nohash_4.wav")
    assert len(recorder.clips()) == 4 == len(list((recorder.folder / "_takes_/word").iterdir()))
    recorder.press("q")
    assert recorder.end() == EXIT_SOME_FAILED and "4 takes kept, 0 refused, 5 missing" in recorder.shown


def test_an_interrupted_recording_leaves_whole_takes_and_the_terminal_as_it_was(server, recording):
    recorder = Recording(server)
    before = subprocess.check_output(["stty", "-g"], stdin=recorder.terminal)
    server.play(recording)
    recorder.process.send_signal(signal.SIGTERM)
    recorder.process.wait(SECONDS)
    after = subprocess.check_output(["stty", "-g"], stdin=recorder.terminal)
    assert recorder.end() == EXIT_INTERRUPTED and before != after
    assert all(len(soundfile.read(path)[0]) > 4000 for path in recorder.folder.rglob("anna*"))
    assert not [path for path in recorder.folder.rglob(".*")]


def test_a_silent_microphone_is_told(server):
    recorder = Recording(server)
    recorder.wait_for("Is the microphone switched off?")
    recorder.process.kill()
    recorder.end()


def test_without_a_terminal_prompts_are_lines(server, takes):
    process = subprocess.Popen([sys.executable, "-m", "kws", "record", "word", "--speaker", "anna", "--takes", "2"],
                               env=server.environment, cwd=server.folder, text=True, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    room, prompt = process.stderr.readline(), process.stderr.readline()
    assert "the room is at " in room and prompt == "say: word 1/2\n"
    server.play(takes)
    shown, told = process.communicate(timeout=SECONDS)
    assert process.returncode == EXIT_OK and told == "say: word 2/2\n"
    assert [line.split()[1] for line in shown.splitlines()] == ["1/2", "2/2"]
