"""The command that records words."""
import getpass
import io
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED
from kws.files.locks import exclusive

RATE = 16000
SAMPLE = Path("docs/samples/left.flac").resolve()
RECORD = [sys.executable, "-m", "kws", "record"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*gains, pause=0.6):
    """The same word again and again, louder or softer, in a quiet room."""
    word = soundfile.read(SAMPLE, dtype="float32")[0]
    silence = np.zeros(round(pause * RATE), np.float32)
    sound = np.concatenate([silence, *(part for gain in gains for part in (gain * word, silence))])
    return np.clip(sound + 1e-4 * np.random.default_rng(0).standard_normal(len(sound)), -1, 1)


def recording(path, *gains, rate=RATE, **options):
    soundfile.write(path, said(*gains, **options), rate)
    return str(path)


def clips(word="left", root="my-recordings"):
    return sorted(path.name for path in Path(root, word).glob("*"))


def test_each_word_of_a_recording_is_a_take(capsys):
    assert main(["record", "left", recording("a.wav", 1, 0.8, 0.5), "--speaker", "anna"]) == EXIT_OK
    shown = capsys.readouterr()
    assert clips() == ["anna_nohash_0.wav", "anna_nohash_1.wav", "anna_nohash_2.wav"] and shown.err == ""
    assert [line.split()[-1] for line in shown.out.splitlines()] == [f"my-recordings/left/{name}" for name in clips()]
    assert all(len(soundfile.read(f"my-recordings/left/{name}")[0]) == RATE for name in clips())
    assert len(list(Path("my-recordings/_takes_/left").iterdir())) == 3
    assert main(["predict", "my-recordings/left"]) == EXIT_OK
    assert capsys.readouterr().out.count("\nleft") + 1 == 3


def test_recordings_folders_and_standard_input_are_heard_alike(monkeypatch, capsys):
    Path("sounds").mkdir()
    recording("sounds/a.flac", 1, 0.7)
    content = Path(recording("b.wav", 1, 0.7)).read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert main(["record", "left", "-", "--output_path", "from-pipe"]) == EXIT_OK
    assert main(["record", "left", "sounds/", "b.wav", "--output_path", "from-files"]) == EXIT_OK
    samples = (said(1, 0.7) * 32767).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(samples)))
    assert main(["record", "left", "-", "--rate", "16000", "--output_path", "from-raw"]) == EXIT_OK
    piped = [soundfile.read(path)[0] for path in sorted(Path("from-pipe/left").iterdir())]
    filed = [soundfile.read(path)[0] for path in sorted(Path("from-files/left").iterdir())]
    assert len(filed) == 4 and len(piped) == 2 == len(clips(root="from-raw"))
    step = 1.1 / 32768  # the formats round differently
    assert all(np.allclose(one, other, rtol=0, atol=step) for one, other in zip(piped + piped, filed))


def test_takes_go_on_where_they_ended_and_stop_when_there_are_enough(capsys):
    source = recording("a.wav", 1, 0.8, 0.5)
    assert main(["record", "left", source, "--speaker", "anna", "--takes", "2"]) == EXIT_OK
    before = {path: path.read_bytes() for path in Path("my-recordings").rglob("*.wav")}
    assert main(["record", "left", source, "--speaker", "anna", "--takes", "5"]) == EXIT_SOME_FAILED
    assert "3 takes kept, 0 refused, 2 missing" in capsys.readouterr().err
    assert clips() == [f"anna_nohash_{number}.wav" for number in range(5)]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_takes_that_are_refused_are_told_and_others_take_their_place(capsys):
    source = recording("a.wav", 1, 30, 0.03, 0.9)
    assert main(["record", "left", source, "--speaker", "anna"]) == EXIT_SOME_FAILED
    clipped, quiet, summary = capsys.readouterr().err.splitlines()
    assert clipped.startswith("a.wav: not kept, at ") and "clipped" in clipped and "speak up" in quiet
    assert summary == "2 takes kept, 2 refused" and len(clips()) == 2
    assert main(["record", "left", source, "--speaker", "ben", "--takes", "2"]) == EXIT_OK


def test_a_longer_window_takes_longer_words(capsys):
    source = recording("a.wav", 1, 1, rate=RATE // 2)  # said at half the speed
    assert main(["record", "left", source, "--window", "0.5"]) == EXIT_BAD_INPUT
    assert "too long" in capsys.readouterr().err and not Path("my-recordings").exists()
    assert main(["record", "left", source, "--window", "1.2"]) == EXIT_OK
    assert {len(soundfile.read(path)[0]) for path in Path("my-recordings/left").iterdir()} == {round(1.2 * RATE)}


def test_a_recording_without_a_word_is_bad_input(capsys):
    soundfile.write("a.wav", np.zeros(RATE), RATE)
    for options in ([], ["--takes", "2"]):
        assert main(["record", "left", "a.wav", *options]) == EXIT_BAD_INPUT
        assert capsys.readouterr().err.startswith("error: no take was found") and not Path("my-recordings").exists()


def test_a_bad_recording_does_not_stop_the_others(capsys):
    Path("bad.wav").write_bytes(b"RIFF")
    assert main(["record", "left", "bad.wav", recording("a.wav", 1)]) == EXIT_SOME_FAILED
    assert capsys.readouterr().err.startswith("bad.wav: ") and len(clips()) == 1


@pytest.mark.parametrize("words, found", [
    ([], "no word"), (["a.wav"], "no word"), (["_unknown_", "a.wav"], "_unknown_"), (["_x", "a.wav"], "no _ or ."),
    (["..", "a.wav"], "'..'"), ([".x", "a.wav"], "no _ or ."), ([" ", "a.wav"], "not empty"),
    (["", "a.wav"], "not empty"),
    (["a\nb", "a.wav"], "control characters"), (["x" * 300, "a.wav"], "255 bytes"),
    (["left", "up", "a.wav"], "one word"), (["left", "left"], "named twice"), (["left", "a/b"], "a/b: no such file"),
    (["left", "up.wav"], "up.wav: no such file"), (["left", "../up"], "A word has no slash"),
    (["le/ft"], "A word has no slash"),
    (["left", "a.wav", "--speaker", "a/b"], "--speaker 'a/b'"), (["left", "a.wav", "--device", "usb"], "--device"),
    (["left", "a.wav", "--rate", "8000"], "--rate"), (["left", "-", "-"], "once"),
    (["left", "a.wav", "--speaker", "a_nohash_b"], "_nohash_"), (["left", "a.wav", "--output_path", "a.wav"], "a.wav"),
])
def test_what_cannot_be_recorded_is_told_in_one_line(words, found, capsys):
    recording("a.wav", 1)
    assert main(["record", *words]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ") and found in error and error.count("\n") == 1
    assert sorted(os.listdir()) == ["a.wav"]


@pytest.mark.parametrize("option", [["--window", "0.2"], ["--window", "1.6"], ["--window", "nan"], ["--takes", "0"],
                                    ["--takes", "x"]])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(SystemExit, match=str(EXIT_BAD_INPUT)):
        main(["record", "left", *option])


def test_a_word_has_one_folder_however_it_is_typed():
    source = recording("a.wav", 1)
    for form in ("NFD", "NFC"):
        assert main(["record", unicodedata.normalize(form, "zwölf"), source, "--speaker", "anna"]) == EXIT_OK
    assert clips("zwölf") == ["anna_nohash_0.wav", "anna_nohash_1.wav"]


@pytest.mark.parametrize("name, speaker", [("tom", "tom"), ("a/b", "me"), (None, "me")])
def test_the_speaker_is_who_is_logged_in(name, speaker, monkeypatch):
    def login():
        if name is None:
            raise KeyError("getpwuid(): uid not found: 1234")
        return name

    monkeypatch.setattr(getpass, "getuser", login)
    assert main(["record", "left", recording("a.wav", 1)]) == EXIT_OK
    assert clips() == [f"{speaker}_nohash_0.wav"]


def test_two_recordings_into_one_folder_do_not_mix(capsys):
    with exclusive(Path("my-recordings/_takes_/recording"), "kws record"):
        assert main(["record", "left", recording("a.wav", 1)]) == EXIT_BAD_INPUT
    assert "in use by kws record" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_said(capsys, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main(["record", "left", "--output_path", "locked/mine"]) == EXIT_BAD_INPUT
    assert "locked" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written():
    """A limit on the size of files is a full disk to whoever writes one; a clip is smaller than its take."""
    source = recording("a.wav", 1)
    done = subprocess.run(["sh", "-c", f"trap '' XFSZ; ulimit -f 8; exec {' '.join(RECORD)} left {source}"],
                          env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == EXIT_BAD_INPUT and "File too large" in done.stderr and done.stderr.count("\n") == 1
    assert not [path for path in Path("my-recordings").rglob("*") if path.is_file()]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recording_keeps_what_is_complete(sent):
    process = subprocess.Popen([*RECORD, "left", "-", "--rate", "16000", "--speaker", "anna"], env=ENVIRONMENT,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write((said(1, 1, 1) * 32767).astype("<i2").tobytes())
    process.stdin.flush()
    assert [process.stdout.readline().split()[-1] for _ in range(2)] == [
        b"my-recordings/left/anna_nohash_0.wav", b"my-recordings/left/anna_nohash_1.wav"]
    time.sleep(0.2)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == EXIT_INTERRUPTED and errors == b"error: interrupted\n"
    assert all(len(soundfile.read(path)[0]) for path in Path("my-recordings").rglob("*.wav"))
    assert not [path for path in Path("my-recordings").rglob("*") if path.is_file() and path.suffix != ".wav"]
