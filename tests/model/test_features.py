import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kws.model.features import FoldedLogMel, LogMel

DEFAULT = dict(sample_rate=16000, n_fft=512, window_ms=30.0, hop_ms=10.0, num_mels=40, fmin_hz=20.0, fmax_hz=8000.0,
               log_offset=1e-6)
SETTINGS = [
    {}, {"num_mels": 64, "n_fft": 1024, "window_ms": 25.0}, {"fmin_hz": 0.0, "fmax_hz": 4000.0, "num_mels": 20},
    {"sample_rate": 8000, "fmax_hz": 4000.0, "n_fft": 256}, {"hop_ms": 12.5, "log_offset": 1e-4},
]


def reference(waveform, sample_rate, n_fft, window_ms, hop_ms, num_mels, fmin_hz, fmax_hz, log_offset):
    energies = librosa.feature.melspectrogram(
        y=waveform, sr=sample_rate, n_fft=n_fft, win_length=round(window_ms * sample_rate / 1000),
        hop_length=round(hop_ms * sample_rate / 1000), n_mels=num_mels, fmin=fmin_hz, fmax=fmax_hz, power=2.0,
        center=True, pad_mode="constant", htk=True, norm=None)
    return np.log(energies + log_offset)


@pytest.mark.parametrize("change", SETTINGS, ids=str)
@pytest.mark.parametrize("num_samples", [16000, 15999, 4001, 600])
def test_equals_librosa(change, num_samples):
    settings = {**DEFAULT, **change}
    waveforms = np.random.default_rng(num_samples).normal(0, 0.1, (3, num_samples)).astype(np.float32)
    waveforms[1] *= 0.01
    waveforms[2] += np.sin(np.arange(num_samples) * 0.3)  # a pure tone alone leaves bins of nothing but rounding
    found = LogMel(**settings)(torch.from_numpy(waveforms))
    for row, waveform in zip(found, waveforms):
        np.testing.assert_allclose(row[0].numpy(), reference(waveform, **settings), atol=1e-4)


def test_shape_and_silence():
    features = LogMel(**DEFAULT)(torch.zeros(2, 16000))
    assert features.shape == (2, 1, 40, 101)
    assert torch.allclose(features, torch.tensor(DEFAULT["log_offset"]).log())


def test_a_clip_does_not_depend_on_its_neighbours():
    front_end, generator = LogMel(**DEFAULT), torch.Generator().manual_seed(0)
    quiet, loud = 1e-3 * torch.randn(1, 16000, generator=generator), torch.randn(1, 16000, generator=generator)
    together = front_end(torch.cat([loud, quiet, loud, torch.zeros(1, 16000)]))
    assert torch.allclose(together[1], front_end(quiet)[0], atol=1e-5)


@pytest.mark.parametrize("change", [*SETTINGS, {"window_ms": 32.0}, {"fmin_hz": 300.0, "fmax_hz": 3400.0}], ids=str)
def test_folded_is_the_same(change):
    log_mel = LogMel(**{**DEFAULT, **change})
    levels = torch.tensor([1.0, 0.1, 0.01, 1e-4, 0.0])[:, None]
    waveforms = levels * (2 * torch.rand(5, 16000, generator=torch.Generator().manual_seed(0)) - 1)
    torch.testing.assert_close(FoldedLogMel(log_mel)(waveforms), log_mel(waveforms), atol=1e-4, rtol=0)


@given(st.data())
def test_folded_is_the_same_for_any_window_and_hop(data):
    rate = data.draw(st.sampled_from([8000, 16000]), "rate")
    n_fft = data.draw(st.integers(64, 700), "n_fft")
    window = data.draw(st.integers(2, n_fft), "window")
    hop = data.draw(st.integers(1, 900), "hop")
    num_samples = data.draw(st.integers(1, 4000), "num_samples")
    log_mel = LogMel(rate, n_fft, window * 1000 / rate, hop * 1000 / rate, 8, 0.0, rate / 2, 1e-6)
    waveforms = 2 * torch.rand(2, num_samples, generator=torch.Generator().manual_seed(num_samples)) - 1
    found, expected = FoldedLogMel(log_mel)(waveforms).exp(), log_mel(waveforms).exp()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))
