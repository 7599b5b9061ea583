"""The script that measures what running sound costs."""
import benchmark_streaming
from kws.model.folder import SHIPPED


def test_every_way_to_hear_a_sound_is_measured(capsys):
    assert benchmark_streaming.main(["--model", str(SHIPPED), "--seconds", "3"]) == 0
    rows = [line.rsplit(maxsplit=2) for line in capsys.readouterr().out.splitlines()[1:]]
    assert [name.partition(",")[0] for name, *_ in rows] == 2 * ["stream.onnx"] + 2 * ["model.onnx"]
    assert all(0 < float(factor) < 1 and float(ratio) > 0 for _, factor, ratio in rows)
