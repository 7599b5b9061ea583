import numpy as np
import pytest
import torch
from scipy import signal

from kws.rooms import reverberate, room_responses


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_direct_sound_comes_first_and_as_loud_as_asked():
    direct_db = torch.tensor([-6.0, 0.0, 12.0])
    responses = room_responses(torch.full((3,), 0.4), direct_db, 16000, seeded())
    assert responses.shape == (3, 8000)
    assert responses[:, 0].tolist() == [1.0, 1.0, 1.0]
    assert not responses[:, 1:40].any()
    reverberation = responses[:, 1:].square().sum(dim=1)
    assert torch.allclose(-10 * torch.log10(reverberation), direct_db, atol=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.8])
def test_the_tail_falls_by_sixty_decibels_in_the_time_asked_for(seconds):
    tail = room_responses(torch.full((50,), seconds), torch.zeros(50), 16000, seeded())[:, 40:].square().mean(dim=0)
    frames = 10 * torch.log10(tail[:round(0.6 * seconds * 16000) // 160 * 160].reshape(-1, 160).mean(dim=1))
    slope_db = np.polyfit(np.arange(len(frames)) * 0.01, frames.numpy(), 1)[0]
    assert -60 / slope_db == pytest.approx(seconds, rel=0.05)


def test_a_clip_in_a_room_is_its_convolution_with_the_response():
    clips = torch.randn(3, 4000, generator=seeded())
    responses = room_responses(torch.tensor([0.1, 0.4, 0.8]), torch.tensor([-3.0, 0.0, 10.0]), 16000, seeded(1))
    expected = [signal.fftconvolve(clip, response)[:4000] for clip, response in zip(clips, responses)]
    np.testing.assert_allclose(reverberate(clips, responses), expected, atol=1e-4)


def test_nothing_sounds_before_the_word():
    clip = torch.zeros(1, 4000)
    clip[0, 3000] = 1.0
    heard = reverberate(clip, room_responses(torch.tensor([0.8]), torch.tensor([-6.0]), 16000, seeded()))
    assert heard[0, :2999].abs().max() < 1e-5
    assert heard[0, 3040:].abs().max() > 1e-2
