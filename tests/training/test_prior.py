import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kws.config.architecture import load_architecture
from kws.config.sections import FeatureConfig
from kws.errors import ModelError
from kws.model.labels import LabelSet
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsForAudioClassification, build_model
from kws.training.prior import reweight_prior

LABELS = LabelSet.from_keywords(["yes", "no"])


@pytest.fixture(scope="module")
def model():
    architecture = load_architecture(Path("configs/arch/nano.yaml")).as_json()
    return build_model(LABELS.names, 16000, 16000, FeatureConfig().model_dump(), architecture).eval()


def answers(model):
    """[B, C] probabilities."""
    with torch.inference_mode():
        clips = 0.1 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))
        return model(clips).logits.double().softmax(dim=1)


def odds_against_keywords(model):
    """[B], the odds of anything that is no keyword against the keywords."""
    keywords = answers(model)[:, :len(LABELS.keywords)].sum(dim=1)
    return (1 - keywords) / keywords


@given(st.lists(st.floats(min_value=1e-2, max_value=1e2), min_size=1, max_size=4))
def test_the_last_rarity_is_the_one_that_holds(model, rarities):
    reweight_prior(model, 1)
    as_trained = odds_against_keywords(model)
    for rarity in rarities:
        reweight_prior(model, rarity)
    torch.testing.assert_close(odds_against_keywords(model), rarities[-1] * as_trained, rtol=1e-3, atol=0)


def test_it_is_no_matter_between_keywords_or_between_other_words_and_silence(model):
    reweight_prior(model, 1)
    as_trained = answers(model)
    reweight_prior(model, 7)
    found = answers(model)
    for first, second in (("yes", "no"), ("_unknown_", "_silence_")):
        before, after = (rows[:, LABELS.index(first)] / rows[:, LABELS.index(second)] for rows in (as_trained, found))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=0)


def test_the_rarity_travels_with_the_model(model, tmp_path):
    reweight_prior(model, 1)
    as_trained = answers(model)
    reweight_prior(model, 3)
    model.save_pretrained(tmp_path)
    loaded = KwsForAudioClassification.from_pretrained(tmp_path).eval()
    reweight_prior(loaded, 1)
    torch.testing.assert_close(answers(loaded), as_trained, rtol=1e-4, atol=0)


@pytest.mark.parametrize("rarity", [0, -1, float("nan"), float("inf"), "many", None, [5]])
def test_an_edited_rarity_that_is_none_is_named(model, tmp_path, rarity):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "keyword_rarity": rarity}))
    with pytest.raises(ModelError, match="keyword_rarity: found .*; expected a number above 0"):
        load_torch_model(tmp_path)
