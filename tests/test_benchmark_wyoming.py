"""The script that measures what streams cost the service for Home Assistant."""
import benchmark_wyoming


def test_streams_are_measured_and_nothing_is_lost(capsys):
    assert benchmark_wyoming.main(["--streams", "1", "3", "--seconds", "1.5"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[-2], row[-1]) for row in rows] == [("1", "1", "0"), ("3", "3", "0")]
    assert all(float(factor) > 0 and float(late) > 0 for _, factor, _, late, *_ in rows)
