"""The network step by step is the network over the whole sound."""
from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kws.audio.decode import decode
from kws.config.architecture import load_architecture
from kws.errors import ModelError
from kws.inference.listening import StreamModel
from kws.model.folder import BLOCK_ROWS, BODY, SHIPPED, STREAM_FILE, STREAM_WEIGHTS_FILE
from kws.model.loading import load_stream_model, load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.model.second_look import larger, load_second_look
from kws.model.streaming import LIKELY, StreamingClassifier, frame_logits

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model() -> KwsForAudioClassification:
    return load_torch_model(SHIPPED)


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    rng = np.random.default_rng(0)
    loudness = np.repeat(10.0 ** rng.uniform(-4, -0.5, size=100), 480)
    return torch.from_numpy((rng.standard_normal(48_000) * loudness).clip(-1, 1).astype(np.float32))[None]


@pytest.mark.parametrize("folder", [SHIPPED, BODY])
@pytest.mark.parametrize("steps", [1, 3, 50])
@torch.inference_mode()
def test_step_by_step_is_the_whole_at_once(sound: torch.Tensor, steps: int, folder: Path):
    model = load_torch_model(folder).eval()
    torch.nn.init.normal_(model.network.head[-1].weight, generator=torch.Generator().manual_seed(0))  # a body has none
    streaming = StreamingClassifier(model)
    padded = torch.cat([torch.zeros(1, streaming.lead_samples), sound], dim=1)
    padded = padded[:, :padded.shape[1] // streaming.step_samples * streaming.step_samples]
    found = by_steps(streaming, padded, steps)[:, streaming.delay_rows:]
    torch.testing.assert_close(found, after_silence(model, model.network, sound, found.shape[1]), atol=2e-4, rtol=1e-4)


def after_silence(model: KwsForAudioClassification, network: torch.nn.Module, sound: torch.Tensor,
                  rows: int) -> torch.Tensor:
    silent = 200
    silence = torch.zeros(len(sound), silent * 320)
    return frame_logits(network, model.features(torch.cat([silence, sound], dim=1)))[:, silent:silent + rows]


def by_steps(streaming: StreamingClassifier, sound: torch.Tensor, steps: int) -> torch.Tensor:
    state, rows = streaming.initial_state(len(sound)), []
    for chunk in sound.split(steps * streaming.step_samples, dim=1):
        logits, state = streaming(chunk, state)
        rows.append(logits)
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("blocks", [1, 3, 1000])
@pytest.mark.parametrize("kernel", [7, 11, 15])  # of the second network: it waits less, as long, longer
@torch.inference_mode()
def test_the_second_network_answers_what_the_first_finds_likely(kernel: int, blocks: int):
    first = load_stream_model(SHIPPED)
    architecture = load_architecture(ROOT / "configs/arch/nano.yaml").as_json()
    second = larger(first, {**architecture, "temporal": {**architecture["temporal"], "blocks": 4, "kernel": kernel}})
    second.eval()
    streaming, alone = StreamingClassifier(first, second.network), StreamingClassifier(first)
    spoken = torch.from_numpy(decode(ROOT / "docs/samples/five-words.flac", 16_000))
    size = BLOCK_ROWS * streaming.step_samples
    lead = streaming.lead_samples
    words = torch.cat([spoken, spoken])[:(lead + 2 * len(spoken)) // size * size - lead]
    sounds = torch.stack([words, torch.zeros_like(words), words.roll(-20_000)])  # of a batch, not all are likely
    sounds = torch.nn.functional.pad(sounds, (lead, 0))
    found = by_steps(streaming, sounds, blocks * BLOCK_ROWS)
    silent = streaming.lead_samples - alone.lead_samples
    ahead = streaming.delay_rows - alone.delay_rows - silent // streaming.step_samples
    plain = by_steps(alone, sounds, BLOCK_ROWS)
    plain = torch.cat([plain.new_zeros(3, ahead, plain.shape[2]), plain[:, :plain.shape[1] - ahead]], dim=1)
    likely = (plain.softmax(dim=2)[..., :8].amax(dim=2) >= LIKELY).unflatten(1, (-1, BLOCK_ROWS)).any(dim=2)
    likely = likely.repeat_interleave(BLOCK_ROWS, dim=1)[:, streaming.delay_rows:]
    found, plain = found[:, streaming.delay_rows:], plain[:, streaming.delay_rows:]
    assert likely[0].any() and likely[2].any() and not likely[1].any() and not likely[0].all()
    torch.testing.assert_close(found[~likely], plain[~likely], atol=2e-4, rtol=1e-4)
    again = after_silence(first, second.network, sounds[:, lead:], found.shape[1])
    torch.testing.assert_close(found[likely], again[likely], atol=2e-3, rtol=1e-3)


@torch.inference_mode()
def test_the_shipped_file_hears_as_the_weights_beside_it():
    first, exported = load_stream_model(SHIPPED), StreamModel(SHIPPED / STREAM_FILE)
    streaming = StreamingClassifier(first, load_second_look(SHIPPED, first))
    spoken = torch.from_numpy(decode(ROOT / "docs/samples/five-words.flac", 16_000))
    size = BLOCK_ROWS * streaming.step_samples
    sounds = torch.stack([spoken, torch.zeros_like(spoken)])[:, :len(spoken) // size * size]
    expected, _ = streaming(sounds, streaming.initial_state(2))
    found, _ = exported.step(sounds.numpy(), np.zeros((2, exported.state_size), np.float32))
    assert exported.state_size == streaming.state_size
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_weights_for_running_sound_that_are_lost_are_missed(tmp_path: Path):
    folder = shutil.copytree(SHIPPED, tmp_path / "model")
    (folder / STREAM_WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match="stream.safetensors: no such file"):
        load_stream_model(folder)  # those for clips would miss most words


@torch.inference_mode()
def test_a_second_look_sees_the_start_of_a_sound_as_it_is(model: KwsForAudioClassification):
    streaming = StreamingClassifier(always_likely(model), model.network)
    sound = torch.from_numpy(np.random.default_rng(1).uniform(-0.1, 0.1, (1, 64 * 320)).astype(np.float32))
    padded = torch.cat([torch.zeros(1, streaming.lead_samples), sound], dim=1)
    padded = padded[:, :padded.shape[1] // (BLOCK_ROWS * 320) * BLOCK_ROWS * 320]
    found = by_steps(streaming, padded, BLOCK_ROWS)[:, streaming.delay_rows:]
    torch.testing.assert_close(found, after_silence(model, model.network, sound, found.shape[1]), atol=2e-4, rtol=1e-4)


def always_likely(model: KwsForAudioClassification) -> KwsForAudioClassification:
    sure = copy.deepcopy(model)
    sure.network.head[-1].bias[0] += 100
    return sure
