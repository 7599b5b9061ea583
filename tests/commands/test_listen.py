"""The command that finds keywords in long recordings."""
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from kws import KeywordSpotter
from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK, EXIT_SOME_FAILED
from kws.errors import ModelError
from kws.inference.listening import StreamModel, listen_to
from kws.model.folder import SHIPPED, STREAM_FILE

SAMPLE = Path("docs/samples/five-words.flac")


def test_words_are_told_with_their_times(capsys):
    assert main(["listen", str(SAMPLE), "--format", "jsonl"]) == EXIT_OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["word"] for row in rows] == ["go", "left", "up"]  # "right" stays below the threshold
    assert all(row["start_s"] < row["end_s"] <= row["time_s"] and 0.5 < row["confidence"] <= 1 for row in rows)
    assert all(row.keys() == {"path", "word", "start_s", "end_s", "time_s", "confidence"} for row in rows)


def test_standard_input_is_heard_like_the_file(capsys, monkeypatch):
    assert main(["listen", str(SAMPLE)]) == EXIT_OK
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(SAMPLE.read_bytes())))
    assert main(["listen", "-"]) == EXIT_OK
    assert capsys.readouterr().out == expected.replace(str(SAMPLE), "-")


def test_a_bad_recording_does_not_stop_the_others(capsys, tmp_path):
    assert main(["listen", str(tmp_path / "absent.wav"), str(SAMPLE), "--format", "jsonl"]) == EXIT_SOME_FAILED
    first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"].startswith("not_found: ") and len(others) == 3


def test_a_model_for_clips_is_refused(capsys, exported):
    assert main(["listen", str(SAMPLE), "--model", str(exported)]) == EXIT_BAD_INPUT
    assert STREAM_FILE in capsys.readouterr().err


def test_the_shipped_spotter_streams_as_the_command_does(exported):
    expected = list(listen_to(StreamModel(SHIPPED / STREAM_FILE), SAMPLE))
    spotter = KeywordSpotter()
    assert list(spotter.stream([soundfile.read(SAMPLE, dtype="float32")[0]])) == expected != []
    with pytest.raises(ModelError, match="train-streams"):
        KeywordSpotter(exported).stream([])
