import torch

from kws.model.broadcast_residual import SubSpectralNorm


def test_sub_spectral_normalisation_treats_bands_apart():
    norm = SubSpectralNorm(channels=2, sub_bands=4)
    inputs = torch.randn(16, 2, 8, 30)
    inputs[:, :, :2] = 50 * inputs[:, :, :2] + 7
    outputs = norm(inputs)
    assert torch.allclose(outputs[:, 0, :2].mean(), torch.tensor(0.0), atol=1e-4)
    assert torch.allclose(outputs[:, 0, 2:4].std(), torch.tensor(1.0), atol=1e-2)
