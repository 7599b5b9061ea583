"""The script that measures what streams cost the service for Home Assistant."""
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_streams_are_measured_and_nothing_is_lost(capsys):
    spec = importlib.util.spec_from_file_location("benchmark_wyoming", ROOT / "scripts/benchmark_wyoming.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--streams", "1", "3", "--seconds", "1.5"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[-2], row[-1]) for row in rows] == [("1", "1", "0"), ("3", "3", "0")]
    assert all(float(factor) > 0 and float(late) > 0 for _, factor, _, late, *_ in rows)
