import pytest
import torch

from kws.data.noise_bank import mix_noise
from kws.training.augment import Augmenter, mask_bands, tilt_spectrum, time_warp, uniform

NOTHING = dict(sample_rate=16000, shift_ms=0.0, speed=0.0, tilt=0.0, gain_db=(0.0, 0.0), noise_probability=0.0,
               snr_db=(0.0, 0.0), time_masks=0, time_mask_frames=0, frequency_masks=0, frequency_mask_bins=0)
EVERYTHING = dict(sample_rate=16000, shift_ms=100.0, speed=0.1, tilt=0.4, gain_db=(-12.0, 6.0), noise_probability=0.8,
                  snr_db=(0.0, 30.0), time_masks=2, time_mask_frames=20, frequency_masks=2, frequency_mask_bins=5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tone(frequency_hz, num_samples=16000):
    return 0.5 * torch.sin(torch.arange(num_samples) * (2 * torch.pi * frequency_hz / 16000))


def test_nothing_asked_for_changes_nothing():
    clips = 0.1 * torch.randn(4, 16000, generator=seeded())
    varied = Augmenter(**NOTHING).waveforms(clips, torch.randn(4, 16000, generator=seeded()), seeded())
    assert torch.allclose(varied, clips, atol=1e-3)


def test_every_clip_is_seen_in_its_place_however_many_are_worked_on_at_a_time():
    levels = torch.linspace(0.01, 0.9, 40)
    seen = Augmenter(**NOTHING).spectrograms(levels[:, None].expand(-1, 1600), None,
                                             lambda clips: clips[:, None, None], seeded())
    assert seen.shape == (40, 1, 1, 1600)
    assert torch.allclose(seen[:, 0, 0, 800], levels, atol=1e-4)


def test_whole_sample_shifts_move_the_clip_later_and_fill_with_zeros():
    clip = torch.zeros(1, 1000)
    clip[0, 400] = 1.0
    for shift in (-300, 0, 250):
        moved = time_warp(clip, torch.ones(1), torch.tensor([float(shift)]))
        assert moved[0].argmax() == 400 + shift
        assert moved.sum() == pytest.approx(1.0, abs=0.01)
    assert time_warp(clip, torch.ones(1), torch.tensor([700.0])).abs().max() < 1e-3


def levels_db(waveform):
    """Level of every whole frequency in Hz of a second of sound, 0 dB for a sine of amplitude 1."""
    window = torch.hann_window(16000, dtype=torch.float64) ** 2
    return 20 * torch.log10(2 * torch.fft.rfft(waveform.double() * window).abs() / window.sum() + 1e-12)


@pytest.mark.parametrize("speed", [0.75, 0.9, 0.97, 1.0, 1.03, 1.1, 1.25])
@pytest.mark.parametrize("frequency_hz", [200, 1000, 3000, 5000, 6000])
def test_a_tone_stays_one_tone_at_any_speed(frequency_hz, speed):
    (warped,) = time_warp(2 * tone(frequency_hz)[None], torch.tensor([speed]), torch.tensor([0.37]))
    levels, peak = levels_db(warped), round(frequency_hz * speed)
    assert levels[peak] == pytest.approx(0.0, abs=0.15)
    images = torch.cat([levels[:peak - 20], levels[peak + 21:]])
    assert images.max() < -60


def test_what_would_be_above_the_band_when_played_faster_is_gone_and_folds_nowhere():
    for frequency_hz, speed in ((7500, 1.25), (7900, 1.1)):
        (warped,) = time_warp(2 * tone(frequency_hz)[None], torch.tensor([speed]), torch.zeros(1))
        assert levels_db(warped).max() < -40


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.17])
@pytest.mark.parametrize("num_samples", [16000, 4003])
def test_a_warp_is_the_band_limited_signal_at_other_times(speed, num_samples):
    """Against the same sum of sines, evaluated where the warped clip reads: about the middle, moved by a fraction."""
    generator = seeded(3)
    hz, phase = 6000 * torch.rand(8, 1, generator=generator), 6.28 * torch.rand(8, 1, generator=generator)

    def signal(samples):
        return torch.sin(2 * torch.pi * hz * samples / 16000 + phase).sum(dim=0, keepdim=True) / 8

    times, shift, middle = torch.arange(num_samples, dtype=torch.float64), 12.34, (num_samples - 1) / 2
    warped = time_warp(signal(times).float(), torch.tensor([speed]), torch.tensor([shift]))
    sources = (times - middle - shift) * speed + middle
    inside = (sources > 64) & (sources < num_samples - 64)  # further out, the ends of the clip are heard
    assert inside.sum() > 0.75 * num_samples
    assert (warped[0] - signal(sources)[0])[inside].abs().max() < 2e-3


def test_a_clip_is_warped_alike_alone_and_beside_others():
    clips = 0.1 * torch.randn(5, 16000, generator=seeded())
    speed, shift = torch.tensor([0.75, 0.9, 1.0, 1.1, 1.25]), torch.tensor([-1600.0, 3.3, 0.0, 20000.0, 800.5])
    together = time_warp(clips, speed, shift)
    alone = torch.cat([time_warp(clips[i:i + 1], speed[i:i + 1], shift[i:i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together[2], clips[2], atol=1e-6)
    assert together[3].abs().max() < 1e-6  # moved out of the window


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_comes_at_the_asked_ratio(snr_db):
    speech, noise = tone(440)[None], 0.03 * torch.randn(1, 16000, generator=seeded())
    added = mix_noise(speech, noise, torch.tensor([snr_db])) - speech
    assert 10 * torch.log10(speech.square().mean() / added.square().mean()) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("tilt", [-0.5, 0.0, 0.5])
def test_a_tilt_changes_the_level_by_frequency(tilt):
    low, high = (tilt_spectrum(tone(hz)[None], torch.tensor([tilt])) for hz in (40, 7960))
    assert 20 * torch.log10(high.std() / low.std()) == pytest.approx({-0.5: -9.54, 0.0: 0.0, 0.5: 9.54}[tilt], abs=0.1)


def test_infinite_ratio_adds_nothing_and_silence_gets_little():
    noise = torch.randn(2, 16000, generator=seeded())
    clips = torch.stack([tone(440), torch.zeros(16000)])
    mixed = mix_noise(clips, noise, torch.tensor([torch.inf, 0.0]))
    assert torch.equal(mixed[0], clips[0])
    assert 0 < mixed[1].square().mean().sqrt() < 2e-4


def test_masks_cover_exactly_their_bands_with_the_mean():
    features = torch.randn(2, 1, 40, 101, generator=seeded())
    masked = mask_bands(features, torch.tensor([[3, 90], [0, 0]]), torch.tensor([[5, 11], [0, 0]]), dim=3)
    covered = torch.zeros(101, dtype=torch.bool)
    covered[3:8] = covered[90:101] = True
    assert torch.allclose(masked[0, 0][:, covered], features[0].mean())
    assert torch.equal(masked[0, 0][:, ~covered], features[0, 0][:, ~covered])
    assert torch.equal(masked[1], features[1])
    by_mel = mask_bands(features, torch.tensor([[0], [39]]), torch.tensor([[2], [1]]), dim=2)
    assert torch.allclose(by_mel[1, 0, 39], features[1].mean())
    assert torch.equal(by_mel[1, 0, :39], features[1, 0, :39])


def test_equal_seeds_vary_alike_and_others_differently():
    augmenter, clips = Augmenter(**EVERYTHING), 0.1 * torch.randn(8, 16000, generator=seeded())
    noise, features = torch.randn(8, 16000, generator=seeded(1)), torch.randn(8, 1, 40, 101, generator=seeded(2))
    first, again, other = (augmenter.waveforms(clips, noise, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1.0
    first, again, other = (augmenter.features(features, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_clips_of_a_batch_vary_each_in_its_own_way():
    clips = tone(500).expand(6, -1)
    varied = Augmenter(**EVERYTHING).waveforms(clips, None, seeded())
    assert len({round(float(clip.square().mean()), 6) for clip in varied}) == 6


def test_masks_no_wider_than_the_spectrogram():
    augmenter = Augmenter(**{**NOTHING, "time_masks": 3, "time_mask_frames": 500})
    assert augmenter.features(torch.randn(4, 1, 8, 10, generator=seeded()), seeded()).isfinite().all()


def test_uniform_draws_within_its_range():
    drawn = uniform(seeded(), 1000, -2.0, 3.0)
    assert drawn.min() >= -2.0 and drawn.max() <= 3.0 and drawn.std() > 1.0
