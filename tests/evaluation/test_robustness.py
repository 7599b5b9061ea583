import numpy as np
import pytest
import torch

from kws.evaluation import robustness


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("direct_db", [-6.0, 0.0, 12.0])
def test_the_direct_sound_comes_first_and_as_loud_as_asked(direct_db):
    responses = robustness.room_responses(3, 0.4, direct_db, 16000, seeded())
    assert responses.shape == (3, 8000)
    assert responses[:, 0].tolist() == [1.0, 1.0, 1.0]
    assert not responses[:, 1:40].any()
    reverberation = responses[:, 1:].square().sum(dim=1)
    assert torch.allclose(-10 * torch.log10(reverberation), torch.tensor(direct_db), atol=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.8])
def test_the_tail_falls_by_sixty_decibels_in_the_time_asked_for(seconds):
    tail = robustness.room_responses(50, seconds, 0.0, 16000, seeded())[:, 40:].square().mean(dim=0)
    frames = 10 * torch.log10(tail[:round(0.6 * seconds * 16000) // 160 * 160].reshape(-1, 160).mean(dim=1))
    slope_db = np.polyfit(np.arange(len(frames)) * 0.01, frames.numpy(), 1)[0]
    assert -60 / slope_db == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_a_clip_in_a_room_is_as_loud_as_it_was_and_sounds_on(sample_rate):
    clips = torch.zeros(250, sample_rate // 4)  # more than are worked on at a time
    clips[:, sample_rate // 8:sample_rate // 8 + 20] = torch.linspace(0.01, 0.1, 250)[:, None]
    heard = robustness.across_room(clips, sample_rate, seed=0)
    assert torch.allclose(heard.square().mean(dim=1), clips.square().mean(dim=1), rtol=1e-3)
    assert heard[:, :sample_rate // 8 - 1].abs().max() < 1e-5
    assert (heard[:, sample_rate // 8 + 60:].abs().amax(dim=1) > 0.01 * heard.abs().amax(dim=1)).all()
    assert not torch.allclose(heard[0] / heard[0].max(), heard[-1] / heard[-1].max(), atol=1e-2)


def test_each_clip_is_the_sum_of_its_echoes():
    """The convolution written down once more, as a product with shifted copies."""
    clips = 0.1 * torch.randn(3, 400, generator=seeded(1))
    responses = robustness.room_responses(3, robustness._ROOM_SECONDS, robustness._ROOM_DIRECT_DB, 16000, seeded())
    echoes = torch.stack([torch.nn.functional.pad(clips, (delay, 0))[:, :400] for delay in range(400)], dim=2)
    far = (echoes @ responses[:, :400, None])[..., 0]
    expected = far * (clips.square().mean(dim=1) / far.square().mean(dim=1)).sqrt()[:, None]
    assert torch.allclose(robustness.across_room(clips, 16000, seed=0), expected, atol=1e-5)


def test_digital_silence_stays_silent():
    assert not robustness.across_room(torch.zeros(2, 4000), 16000, seed=0).any()
