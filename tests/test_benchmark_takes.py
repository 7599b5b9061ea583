"""The count of takes, on two clips of the documentation."""
import shutil
from pathlib import Path

import pytest

import benchmark_takes
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK, guard

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(tmp_path):
    for word in ("left", "stop"):
        (tmp_path / word).mkdir()
        shutil.copy(ROOT / f"docs/samples/{word}.flac", tmp_path / word / "anna_nohash_0.flac")
    (tmp_path / "validation_list.txt").write_text("left/anna_nohash_0.wav\nstop/anna_nohash_0.wav\n")
    return lambda *arguments: guard(benchmark_takes.main, [str(tmp_path), "--words", "left", "stop", *arguments])


def test_every_word_is_a_take_in_silence_and_in_noise(script, capsys):
    assert script("--clips", "1") == EXIT_OK
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].strip() for line in shown] == ["zeros", "-60 dBFS", "-45 dBFS"]
    assert all("2 clips, 2 are one take, 0 of these refused, 0 as clipped; " in line for line in shown)


def test_too_few_clips_are_told(script, capsys):
    assert script("--clips", "2") == EXIT_BAD_INPUT
    assert "has 1 validation clips of left; expected 2" in capsys.readouterr().err
