"""The command that finds keywords in running sound."""
import io
import json
import os
import pty
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import soundfile
import torch

from kws import KeywordSpotter
from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED
from kws.errors import AudioError, ModelError
from kws.inference.listening import StreamModel, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE

SAMPLE = Path("docs/samples/five-words.flac")
WORDS = ["go", "left", "up", "right"]
LISTEN = [sys.executable, "-m", "kws", "listen", "--model", str(SHIPPED)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}
ENDLESS_WAV = (b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
               + b"data\xff\xff\xff\xff")


@pytest.fixture(scope="module")
def samples():
    """What is said in the sample, 16-bit."""
    return soundfile.read(SAMPLE, dtype="int16")[0]


def words(shown):
    return [json.loads(line)["word"] for line in shown.splitlines()]


def piped(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_words_are_told_with_their_times(capsys):
    assert main(["listen", str(SAMPLE), "--format", "jsonl"]) == EXIT_OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["word"] for row in rows] == WORDS
    assert all(row["start_s"] < row["end_s"] <= row["time_s"] and 0.5 < row["confidence"] <= 1 for row in rows)
    assert all(row.keys() == {"path", "word", "start_s", "end_s", "time_s", "confidence"} for row in rows)


def test_standard_input_is_heard_like_the_file(capsys, monkeypatch):
    assert main(["listen", str(SAMPLE)]) == EXIT_OK
    expected = capsys.readouterr().out
    piped(monkeypatch, SAMPLE.read_bytes())
    assert main(["listen", "-"]) == EXIT_OK
    assert capsys.readouterr().out == expected.replace(str(SAMPLE), "-")


def test_a_bad_recording_does_not_stop_the_others(capsys, tmp_path):
    assert main(["listen", str(tmp_path / "absent.wav"), str(SAMPLE), "--format", "jsonl"]) == EXIT_SOME_FAILED
    first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"].startswith("not_found: ") and len(others) == len(WORDS)


def test_a_model_for_clips_is_refused(capsys, exported):
    assert main(["listen", str(SAMPLE), "--model", str(exported)]) == EXIT_BAD_INPUT
    assert STREAM_FILE in capsys.readouterr().err


def test_the_shipped_spotter_streams_as_the_command_does(exported):
    expected = list(listen_to(StreamModel(SHIPPED / STREAM_FILE), SAMPLE))
    spotter = KeywordSpotter()
    assert list(spotter.stream([soundfile.read(SAMPLE, dtype="float32")[0]])) == expected != []
    with pytest.raises(ModelError, match="train-streams"):
        KeywordSpotter(exported).stream([])


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 1), (48000, 2)])
def test_raw_samples_are_heard_at_their_rate(samples, rate, channels, capsys, monkeypatch):
    import soxr

    sound = soxr.resample(samples.astype(np.float32), 16000, rate).clip(-32768, 32767).astype("<i2")
    piped(monkeypatch, np.stack([sound] * channels, axis=1).tobytes() + b"x")
    assert main(["listen", "-", "--rate", str(rate), "--channels", str(channels), "--format", "jsonl"]) == EXIT_OK
    assert words(capsys.readouterr().out) == WORDS


def test_a_folder_is_heard_as_a_whole(capsys, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copy(SAMPLE, tmp_path / "a/b/one.FLAC")
    shutil.copy("docs/samples/stop.flac", tmp_path / "a/two.flac")
    (tmp_path / "notes.txt").touch()
    assert main(["listen", str(tmp_path), str(SAMPLE), "--format", "jsonl"]) == EXIT_OK
    shown = capsys.readouterr()
    assert words(shown.out) == ["stop", *WORDS, *WORDS] and "1 .txt" in shown.err
    assert json.loads(shown.out.splitlines()[1])["path"] == str(tmp_path / "a/b/one.FLAC")
    (tmp_path / "empty").mkdir()
    assert main(["listen", str(SAMPLE), str(tmp_path / "empty")]) == EXIT_BAD_INPUT


def test_lines_go_to_a_file(capsys, tmp_path):
    assert main(["listen", str(SAMPLE), "--output_path", str(tmp_path / "out.jsonl")]) == EXIT_OK
    assert words((tmp_path / "out.jsonl").read_text()) == WORDS and capsys.readouterr().out == ""


def test_a_full_disk_does_not_end_the_listening(capsys, tmp_path):
    log = tmp_path / "log"
    assert main(["listen", str(SAMPLE), str(SAMPLE), "--output_path", "/dev/full", "--exec",
                 f"sh -c 'echo {{word}} >> {log}'"]) == EXIT_SOME_FAILED
    assert capsys.readouterr().err == "/dev/full: No space left on device; lines are lost, listening goes on\n"
    assert log.read_text().split() == 2 * WORDS


def test_standard_output_on_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*LISTEN, str(SAMPLE)], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert done.returncode == EXIT_SOME_FAILED
    assert done.stderr == "standard output: No space left on device; lines are lost, listening goes on\n"


@pytest.mark.parametrize("command", [["predict", str(SAMPLE)], ["--help"], ["--version"]], ids=lambda words: words[0])
def test_what_other_commands_print_onto_a_full_disk_is_one_line_too(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "kws", *command], stdout=full, stderr=subprocess.PIPE, text=True,
                              env=ENVIRONMENT)
    assert done.returncode == EXIT_BAD_INPUT
    assert done.stderr.splitlines()[-1].endswith("No space left on device") and "Exception" not in done.stderr


def test_thresholds_are_confidences(capsys):
    def found(*thresholds):
        options = [argument for value in thresholds for argument in ("--threshold", value)]
        assert main(["listen", str(SAMPLE), "--format", "jsonl", *options]) == EXIT_OK
        return [(row["word"], row["confidence"]) for row in map(json.loads, capsys.readouterr().out.splitlines())]

    low = found("0.05")
    assert len(low) > 3 and all(confidence >= 0.05 for _, confidence in low)
    assert found("0.999999") == []
    for threshold in (0.3, 0.7, 0.9):
        assert all(confidence >= threshold for _, confidence in found(str(threshold)))
    assert {word for word, _ in found("go=0.999999")} == {"left", "up", "right"}
    both = {word for word, _ in found("up=0.3", "0.999999")}
    assert both == {"up"}, "a word of its own counts for more, in any order"


@pytest.mark.parametrize("value", ["0", "1", "-1", "nan", "inf", "go=", "=0.5", "go=1", "x", ""])
def test_what_is_no_threshold_is_refused(value, capsys):
    with pytest.raises(SystemExit, match=str(EXIT_BAD_INPUT)):
        main(["listen", str(SAMPLE), f"--threshold={value}"])
    assert "expected WORD=CONFIDENCE or CONFIDENCE, more than 0 and less than 1" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, said", [
    ([str(SAMPLE), "--threshold", "jump=0.5"], "there are"), ([str(SAMPLE), "--device", "usb"], "--device"),
    ([str(SAMPLE), "--rate", "16000"], "kws listen - --rate"), (["-", "--channels", "2"], "--rate"),
    (["-", "-"], "once"),
    ([str(SAMPLE), "--exec", "'"], "--exec"), ([str(SAMPLE), "--exec", "no-such-program {word}"], "no-such-program"),
    ([str(SAMPLE), "--output_path", str(SAMPLE)], "is the input"),
    ([str(SAMPLE), "--output_path", "/no/such/folder/out"], "/no/such/folder/out"),
    ([str(SAMPLE), "--save-detections", "/dev/null/clips"], "/dev/null/clips")])
def test_options_that_cannot_work_are_one_line(arguments, said, capsys):
    assert main(["listen", *arguments]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("command", ["listen", "predict"])
def test_no_recording_of_a_folder_is_written_over(command, tmp_path, capsys):
    shutil.copy(SAMPLE, tmp_path / "a.flac")
    assert main([command, str(tmp_path), "--output_path", str(tmp_path / "a.flac")]) == EXIT_BAD_INPUT
    assert f"{tmp_path}/a.flac: is a recording" in capsys.readouterr().err
    assert (tmp_path / "a.flac").read_bytes() == SAMPLE.read_bytes()


def test_of_a_recording_every_word_starts_a_program(tmp_path):
    long = np.tile(soundfile.read(SAMPLE, dtype="int16")[0], 6)
    soundfile.write(tmp_path / "a.wav", long, 16000)
    script = f"sleep 0.05; echo {{word}} >> {tmp_path}/out"
    done = subprocess.run([*LISTEN, str(tmp_path / "a.wav"), "--exec", f"sh -c '{script}'"], env=ENVIRONMENT, text=True,
                          capture_output=True)
    assert (done.returncode, done.stderr) == (EXIT_OK, "")
    assert (tmp_path / "out").read_text().split() == [line.split()[2] for line in done.stdout.splitlines()]
    assert done.stdout.count("\n") > 20


def test_an_interrupt_while_the_last_programs_run_is_told(tmp_path):
    process = subprocess.Popen([*LISTEN, str(SAMPLE), "--exec", "sleep 30"], env=ENVIRONMENT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in WORDS:
        process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (EXIT_INTERRUPTED, "", "error: interrupted\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_started_with_closed_streams_it_does_its_work(closed, tmp_path):
    command = " ".join(map(shlex.quote, [*LISTEN, str(SAMPLE), "--output_path", str(tmp_path / "out")]))
    assert subprocess.run(["sh", "-c", f"exec {command} {closed}"], env=ENVIRONMENT).returncode == EXIT_OK
    assert [line.split()[2] for line in (tmp_path / "out").read_text().splitlines()] == WORDS


def test_floats_on_the_scale_of_integers_are_refused(samples, tmp_path, monkeypatch, capsys):
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), 16000, format="WAV", subtype="FLOAT")
    piped(monkeypatch, file.getvalue())
    assert main(["listen", "-", "--model", str(SHIPPED)]) == EXIT_SOME_FAILED
    assert "expected floats in -1..1. Are they integers?" in capsys.readouterr().err
    spotter = KeywordSpotter(SHIPPED)
    with pytest.raises(AudioError, match="Are they integers"):
        list(spotter.stream([samples.astype(np.float32)]))
    assert [found.word for found in spotter.stream([torch.from_numpy(samples)])] == WORDS
    for wrong in (b"abc", "abc", [1, 2], np.zeros((2, 3))):
        with pytest.raises(ValueError, match="expected \\[T\\], mono"):
            list(spotter.stream([wrong]))


def test_without_the_package_for_microphones_it_is_said_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["listen"]) == EXIT_BAD_INPUT
    assert "pip install 'kws[mic]'" in capsys.readouterr().err


def test_detections_are_kept_as_clips(samples, tmp_path):
    assert main(["listen", str(SAMPLE), "--save-detections", str(tmp_path / "clips")]) == EXIT_OK
    paths = sorted((tmp_path / "clips").iterdir())
    assert [path.name.split("_")[-2] for path in paths] == WORDS
    for path in paths:
        clip, rate = soundfile.read(path, dtype="int16")
        assert rate == 16000 and len(clip) == 16000
        windows = np.lib.stride_tricks.sliding_window_view(samples, 16000)
        assert (np.abs(windows[::1, :50].astype(int) - clip[:50]).max(axis=1) <= 1).any(), "it is cut out of the sound"


class Pipe:
    """A running `kws listen -` that is fed by hand."""

    def __init__(self, *arguments, **options):
        self.process = subprocess.Popen([*LISTEN, "-", "--format", "jsonl", *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, **options)

    def feed(self, content):
        self.process.stdin.write(content)
        self.process.stdin.flush()

    def line(self):
        return json.loads(self.process.stdout.readline())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_live_pipe_is_told_while_it_goes_on_and_ends_by_a_signal(samples, sent, tmp_path):
    pipe = Pipe("--save-detections", str(tmp_path / "clips"), "--exec", "sleep 1000")
    pipe.feed(ENDLESS_WAV)
    for first in range(0, len(samples), 800):
        pipe.feed(samples[first:first + 800].tobytes())
    assert [pipe.line()["word"] for _ in WORDS] == WORDS  # the pipe is still open
    pipe.process.send_signal(sent)
    shown, errors = pipe.process.communicate(timeout=20)
    assert pipe.process.returncode == EXIT_INTERRUPTED
    assert errors.decode() == "error: interrupted\n" and shown == b""
    assert len([soundfile.read(path) for path in (tmp_path / "clips").iterdir()]) == len(WORDS)


def test_the_first_answer_comes_soon_after_the_start(samples):
    began = time.monotonic()
    pipe = Pipe()
    pipe.feed(ENDLESS_WAV + samples.tobytes())
    assert pipe.line()["word"] == "go"
    assert time.monotonic() - began < 5, "0.7 s on a machine that has time"
    pipe.process.kill()
    pipe.process.wait()


def test_silence_takes_no_memory_and_gives_no_words(tmp_path):
    pipe = Pipe("--save-detections", str(tmp_path))
    pipe.feed(ENDLESS_WAV)
    resident = []
    for minute in range(6):
        pipe.feed(bytes(60 * 32000))
        if minute in (1, 5):
            resident.append(psutil.Process(pipe.process.pid).memory_info().rss)
    shown, errors = pipe.process.communicate(timeout=120)
    assert (pipe.process.returncode, shown, errors) == (EXIT_OK, b"", b"")
    assert resident[1] < resident[0] + 2**21


def test_a_level_meter_is_drawn_on_a_terminal_only():
    ours, theirs = pty.openpty()
    done = subprocess.run([*LISTEN, str(SAMPLE)], stdout=subprocess.PIPE, stderr=theirs, env=ENVIRONMENT, text=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "[####" in shown and " dB " in shown and shown.endswith("\x1b[K") and "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == len(WORDS)


def test_a_reader_that_leaves_ends_it_quietly(samples):
    pipe = Pipe()
    pipe.feed(ENDLESS_WAV)
    pipe.process.stdout.close()
    try:
        for _ in range(100):
            pipe.feed(samples.tobytes())
    except BrokenPipeError:
        pass
    thread = threading.Timer(20, pipe.process.kill)
    thread.start()
    assert pipe.process.wait() == EXIT_OK and pipe.process.stderr.read() == b""
    thread.cancel()
