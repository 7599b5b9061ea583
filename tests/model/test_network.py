from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional

from kws.config.architecture import load_architecture
from kws.model.network import build_network

SIZES = {"nano": 10_000, "small": 60_000, "base": 250_000, "speech": 250_000}
NAMES = [*SIZES, "bcresnet-1", "bcresnet-3"]


def build(name, num_labels=12, num_mels=40):
    architecture = load_architecture(Path(f"configs/arch/{name}.yaml")).as_json()
    return build_network(architecture, num_labels, num_mels)


@pytest.mark.parametrize("name, published", [("bcresnet-1", 9_200), ("bcresnet-3", 54_200)])
def test_published_parameter_counts(name, published):
    """Kim et al., arXiv:2106.04140, table 2."""
    assert round(sum(weight.numel() for weight in build(name).parameters()), -2) == published


@pytest.mark.parametrize("name, limit", SIZES.items())
def test_our_sizes_keep_their_limits(name, limit):
    assert sum(weight.numel() for weight in build(name).parameters()) <= limit


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 40, 101, 301])
def test_any_number_of_frames_gives_one_answer(name, frames):
    assert build(name, num_labels=7).eval()(torch.randn(2, 1, 40, frames)).shape == (2, 7)


@pytest.mark.parametrize("num_mels", [1, 13, 39, 64])
def test_any_number_of_mel_bins_is_folded(num_mels):
    for name in SIZES:
        assert build(name, num_mels=num_mels).eval()(torch.randn(2, 1, num_mels, 50)).shape == (2, 12)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_does_not_depend_on_the_batch(name):
    network, features = build(name).eval(), torch.randn(5, 1, 40, 101)
    features[1] *= 100
    assert torch.allclose(network(features)[2], network(features[2:3])[0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_every_weight(name):
    network = build(name).train()
    torch.nn.functional.cross_entropy(network(torch.randn(4, 1, 40, 101)), torch.arange(4)).backward()
    assert [key for key, weight in network.named_parameters() if not weight.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", SIZES)
def test_the_network_is_the_one_described(name):
    """The same sums written down once more, with the fold as a product over flattened channels and mel bins."""
    torch.manual_seed(0)
    network, features = build(name), torch.randn(3, 1, 40, 101)
    network.train()(torch.randn(8, 1, 40, 101))  # statistics of their own for the normalisations
    weights, used = network.eval().state_dict(), set()

    def take(key):
        used.add(key)
        return weights[key]

    def convolve(inputs, key, norm, stride=(1, 1)):
        kernel = take(f"{key}.weight")
        outputs = functional.conv2d(inputs, kernel, stride=stride, padding=[size // 2 for size in kernel.shape[2:]],
                                    groups=inputs.shape[1] // kernel.shape[1])
        return normalise(outputs, norm)

    def normalise(outputs, norm):
        mean, variance, scale, offset = (take(f"{norm}.{part}")[:, None, None] for part in (
            "running_mean", "running_var", "weight", "bias"))
        return (outputs - mean) / (variance + 1e-5).sqrt() * scale + offset

    def separable(inputs, key, stride=(1, 1)):
        outputs = convolve(inputs, f"{key}.block.0", f"{key}.block.1", stride).relu()
        outputs = convolve(outputs, f"{key}.block.3", f"{key}.block.4")
        return (inputs + outputs).relu() if inputs.shape == outputs.shape else outputs.relu()

    document = yaml.safe_load(Path(f"configs/arch/{name}.yaml").read_text())
    outputs = torch.stack([spectrogram - spectrogram.max() for spectrogram in features])
    outputs = convolve(outputs, "stem.0", "stem.1", document["stem"]["stride"]).relu()
    for index, block in enumerate(document["spectral"]):
        outputs = separable(outputs, f"spectral.{index}", block["stride"])
    folded = take("fold.0.weight").flatten(1) @ outputs.flatten(1, 2)
    outputs = normalise(folded[:, :, None], "fold.1").relu()
    for index in range(document["temporal"]["blocks"]):
        outputs = separable(outputs, f"temporal.{index}")
    outputs = outputs.mean(dim=(2, 3))
    if "embedding" in document:
        outputs = outputs @ take("embedding.projection.weight").T + take("embedding.projection.bias")
        outputs = outputs / outputs.square().sum(dim=1, keepdim=True).sqrt()
    expected = outputs @ take("head.1.weight").T + take("head.1.bias")
    assert torch.allclose(network(features), expected, atol=1e-4)
    assert {key for key in weights if "num_batches" not in key} == used


@pytest.mark.parametrize("name", SIZES)
def test_the_level_does_not_matter(name):
    """10 times the amplitude adds log(100) to every log-mel energy."""
    network, features = build(name).eval(), torch.randn(3, 1, 40, 101)
    louder = features + torch.tensor([0.0, 4.6, -4.6])[:, None, None, None]
    assert torch.allclose(network(louder), network(features), atol=1e-4)


@pytest.mark.parametrize("name", SIZES)
def test_the_work_is_done_with_the_channels_side_by_side(name):
    """A training step takes half as long again otherwise."""
    seen, network = [], build(name).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.randn(2, 1, 40, 101))
    assert len(seen) > 9 and all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)


@pytest.mark.parametrize("change, message", [
    ({"sub_bands": 7}, "sub_bands"), ({"head": {"channels": 8, "kernel": 9}}, "head.kernel"),
    ({"network": "transformer"}, "network: found 'transformer'; expected one of folded-mel, broadcast-residual")])
def test_what_does_not_fit_is_named(change, message):
    architecture = load_architecture(Path("configs/arch/bcresnet-1.yaml")).as_json()
    with pytest.raises(ValueError, match=message):
        build_network({**architecture, **change}, 12, 40)
