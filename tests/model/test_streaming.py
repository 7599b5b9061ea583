"""The network step by step is the network over the whole sound."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from kws.model.modeling import KwsForAudioClassification
from kws.model.folder import SHIPPED
from kws.model.loading import load_torch_model
from kws.model.streaming import StreamingClassifier, frame_logits


@pytest.fixture(scope="module")
def model() -> KwsForAudioClassification:
    return load_torch_model(SHIPPED)


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    rng = np.random.default_rng(0)
    loudness = np.repeat(10.0 ** rng.uniform(-4, -0.5, size=100), 480)
    return torch.from_numpy((rng.standard_normal(48_000) * loudness).clip(-1, 1).astype(np.float32))[None]


@pytest.mark.parametrize("steps", [1, 3, 50])
@torch.inference_mode()
def test_step_by_step_is_the_whole_at_once(model: KwsForAudioClassification, sound: torch.Tensor, steps: int):
    streaming = StreamingClassifier(model)
    padded = torch.cat([torch.zeros(1, streaming.lead_samples), sound], dim=1)
    padded = padded[:, :padded.shape[1] // streaming.step_samples * streaming.step_samples]
    state, rows = streaming.initial_state(), []
    for chunk in padded.split(steps * streaming.step_samples, dim=1):
        logits, state = streaming(chunk, state)
        rows.append(logits)
    found = torch.cat(rows, dim=1)[:, streaming.delay_rows:]
    expected = frame_logits(model.network, model.features(sound))[:, :found.shape[1]]
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
