import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kws.architecture import load_architecture
from kws.config import FeatureConfig
from kws.errors import ModelError
from kws.labels import LabelSet
from kws.modeling import KwsForAudioClassification, build_model
from kws.odds import expect_unknown
from kws.runtime import load_torch_model

LABELS = LabelSet.from_keywords(["yes", "no"])


@pytest.fixture(scope="module")
def model():
    architecture = load_architecture(Path("configs/arch/nano.yaml")).model_dump(mode="json")
    return build_model(LABELS.names, 16000, 16000, FeatureConfig().model_dump(), architecture).eval()


def unknown_odds(model):
    """[B], the odds of `_unknown_` against everything else."""
    with torch.inference_mode():
        clips = 0.1 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))
        probability = model(clips).logits.double().softmax(dim=1)[:, LABELS.index("_unknown_")]
        return probability / (1 - probability)


@given(st.lists(st.floats(min_value=1e-2, max_value=1e2), min_size=1, max_size=4))
def test_the_last_odds_are_those_that_hold(model, odds):
    expect_unknown(model, 1)
    as_trained = unknown_odds(model)
    for value in odds:
        expect_unknown(model, value)
    torch.testing.assert_close(unknown_odds(model), odds[-1] * as_trained, rtol=1e-3, atol=0)


def test_the_odds_travel_with_the_model(model, tmp_path):
    expect_unknown(model, 1)
    as_trained = unknown_odds(model)
    expect_unknown(model, 3)
    model.save_pretrained(tmp_path)
    loaded = KwsForAudioClassification.from_pretrained(tmp_path).eval()
    expect_unknown(loaded, 1)
    torch.testing.assert_close(unknown_odds(loaded), as_trained, rtol=1e-4, atol=0)


@pytest.mark.parametrize("odds", [0, -1, float("nan"), float("inf"), "many", None, [2.5]])
def test_edited_odds_that_are_none_are_named(model, tmp_path, odds):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "unknown_odds": odds}))
    with pytest.raises(ModelError, match="unknown_odds: found .*; expected a number above 0"):
        load_torch_model(tmp_path)
