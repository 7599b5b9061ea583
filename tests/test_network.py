from pathlib import Path

import pytest
import torch

from kws.config import load_architecture
from kws.network import SubSpectralNorm, build_network


def build(name, num_labels=12):
    architecture = load_architecture(Path(f"configs/arch/{name}.yaml")).model_dump(mode="json")
    return build_network(architecture, num_labels, num_mels=40)


@pytest.mark.parametrize("name, published", [("bcresnet-1", 9_200), ("bcresnet-3", 54_200)])
def test_published_parameter_counts(name, published):
    """Kim et al., arXiv:2106.04140, table 2."""
    assert round(sum(weight.numel() for weight in build(name).parameters()), -2) == published


@pytest.mark.parametrize("name, limit", [("nano", 10_000), ("small", 60_000)])
def test_our_sizes_keep_their_limits(name, limit):
    assert sum(weight.numel() for weight in build(name).parameters()) <= limit


@pytest.mark.parametrize("frames", [1, 40, 101, 301])
def test_any_number_of_frames_gives_one_answer(frames):
    assert build("nano", num_labels=7).eval()(torch.randn(2, 1, 40, frames)).shape == (2, 7)


def test_an_answer_does_not_depend_on_the_batch():
    network, features = build("nano").eval(), torch.randn(5, 1, 40, 101)
    features[1] *= 100
    assert torch.allclose(network(features)[2], network(features[2:3])[0], atol=1e-5)


def test_sub_spectral_normalisation_treats_bands_apart():
    norm = SubSpectralNorm(channels=2, sub_bands=4)
    inputs = torch.randn(16, 2, 8, 30)
    inputs[:, :, :2] = 50 * inputs[:, :, :2] + 7
    outputs = norm(inputs)
    assert torch.allclose(outputs[:, 0, :2].mean(), torch.tensor(0.0), atol=1e-4)
    assert torch.allclose(outputs[:, 0, 2:4].std(), torch.tensor(1.0), atol=1e-2)


@pytest.mark.parametrize("change, message", [
    ({"sub_bands": 7}, "sub_bands"), ({"head": {"channels": 8, "kernel": 9}}, "head.kernel")])
def test_sizes_that_do_not_fit_are_named(change, message):
    architecture = load_architecture(Path("configs/arch/nano.yaml")).model_dump(mode="json")
    with pytest.raises(ValueError, match=message):
        build_network({**architecture, **change}, 12, 40)
