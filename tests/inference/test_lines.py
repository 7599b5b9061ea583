"""Lines of detections: written at once and whole, or not at all."""
import json
import os

import pytest

from kws.errors import AudioError
from kws.inference.decision import Detection
from kws.inference.lines import LineWriter

FOUND = Detection("go", 1.0, 1.5, 1.7, 0.875)


def test_json_and_text(tmp_path, capsys):
    LineWriter(None, "text").detection("a.wav", FOUND)
    assert capsys.readouterr().out == "     1.70 s  go            87.5%  a.wav\n"
    LineWriter(None, "text").detection("ä\n\x1b.wav", FOUND)
    assert capsys.readouterr().out == "     1.70 s  go            87.5%  ä\\n\\x1b.wav\n"
    writer = LineWriter(tmp_path / "out", "jsonl")
    writer.detection("ä.wav", FOUND)
    assert json.loads((tmp_path / "out").read_text()) == {
        "path": "ä.wav", "word": "go", "start_s": 1.0, "end_s": 1.5, "time_s": 1.7, "confidence": 0.875}
    writer.error("b", AudioError("b: no", "empty_audio"))
    assert json.loads((tmp_path / "out").read_text().splitlines()[1]) == {"path": "b", "error": "empty_audio: b: no"}


def test_a_full_disk_is_told_once_and_tried_again(small_disk, caplog):
    (small_disk / "filling").write_bytes(bytes(2**20 - 20 * 4096))
    writer, name = LineWriter(small_disk / "out", "jsonl"), "x" * 1000
    for _ in range(200):
        writer.detection(name, FOUND)
    assert len(caplog.records) == 1 and "No space left" in caplog.text and writer.lost > 100
    os.unlink(small_disk / "filling")
    writer.detection("last", FOUND)
    writer.close()
    paths = [json.loads(line)["path"] for line in (small_disk / "out").read_text().splitlines()]
    assert paths == [name] * (200 - writer.lost) + ["last"], "every line is whole"


def test_a_device_that_takes_nothing_is_told_once(caplog):
    writer = LineWriter("/dev/full", "text")
    writer.detection("a", FOUND)
    writer.detection("a", FOUND)
    assert [record.getMessage() for record in caplog.records] == [
        "/dev/full: No space left on device; lines are lost, listening goes on"]


def test_a_folder_that_is_not_there_is_an_error_at_the_start(tmp_path):
    with pytest.raises(FileNotFoundError):
        LineWriter(tmp_path / "absent" / "out", "text")
