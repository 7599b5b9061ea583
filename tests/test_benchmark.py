from pathlib import Path

import pytest
import torch

import benchmark as script
from kws.config.sections import load_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def benchmark(monkeypatch):
    """The script, with one small network and hardly any repetition."""
    for name, value in (("_REPEATS", 1), ("_CALLS", 2), ("_BATCH_SIZE", 8),
                        ("architectures", lambda: [ROOT / "configs/arch/nano.yaml"])):
        monkeypatch.setattr(script, name, value)
    return script


def test_multiplications_are_those_of_convolutions_and_the_classifier(benchmark):
    model = benchmark.untrained_model(load_config(ROOT / "configs/kws.yaml"), ROOT / "configs/arch/nano.yaml").eval()
    counts = []

    def count(module, inputs, output):
        counts.append(output.numel() * module.weight[0].numel())

    for module in model.network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    model(torch.zeros(1, 16000))
    expected = sum(counts)
    network, front_end = benchmark.multiplications(model)
    assert network == expected
    bins, frames = 40, 101
    assert front_end > bins * frames * 200  # no filter bank over 200 energies takes fewer


def test_a_row_holds_every_figure_of_an_architecture(benchmark, capsys):
    threads = torch.get_num_threads()
    try:
        assert benchmark.main(["model", "--config", str(ROOT / "configs/kws.yaml"), "--threads", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    row = capsys.readouterr().out.splitlines()[-1].replace(",", "").split()
    assert row[0] == "nano" and len(row) == 10 + ("(shipped)" in row)
    assert all(float(value) > 0 for value in row[1:] if value != "(shipped)")
