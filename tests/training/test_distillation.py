import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kws.config.sections import FeatureConfig
from kws.errors import ModelError
from kws.model.modeling import build_model
from kws.training.distillation import Teachers
from kws.training.prior import reweight_prior

ARCHITECTURE = {
    "network": "folded-mel", "stem": {"channels": 4, "kernel": [5, 5], "stride": [4, 2]}, "spectral": [],
    "temporal": {"channels": 8, "blocks": 1, "kernel": 3}, "dropout": 0.5}
CPU = torch.device("cpu")


def model(labels=("yes", "_unknown_", "_silence_"), num_samples=4000, seed=0, **features):
    torch.manual_seed(seed)
    return build_model(labels, 16000, num_samples, FeatureConfig(**features).model_dump(), ARCHITECTURE)


@pytest.fixture
def folder(tmp_path):
    model().save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def test_the_loss_is_that_of_the_paper(folder):
    features, logits = torch.randn(6, 1, 40, 26), torch.randn(6, 3)
    answers = model().eval()(input_features=features).logits.detach().numpy()
    divergence = rel_entr(softmax(answers / 2, axis=1), softmax(logits.numpy() / 2, axis=1)).sum(axis=1).mean()
    loss = Teachers([folder], model(), CPU).loss(torch.tensor(5.0), logits, features)
    assert loss.item() == pytest.approx(0.3 * 5.0 + 0.7 * 4 * divergence, rel=1e-4)


def test_several_teachers_answer_with_their_mean(folder, tmp_path):
    model(seed=1).save_pretrained(tmp_path / "other")
    features, logits = torch.randn(6, 1, 40, 26), torch.randn(6, 3)
    answers = np.mean([softmax(model(seed=seed).eval()(input_features=features).logits.detach().numpy() / 2, axis=1)
                       for seed in (0, 1)], axis=0)
    divergence = rel_entr(answers, softmax(logits.numpy() / 2, axis=1)).sum(axis=1).mean()
    loss = Teachers([folder, tmp_path / "other"], model(), CPU).loss(torch.tensor(0.0), logits, features)
    assert loss.item() == pytest.approx(0.7 * 4 * divergence, rel=1e-4)


def test_who_answers_as_the_teacher_has_nothing_to_learn(folder):
    features = torch.randn(6, 1, 40, 26)
    logits = model().eval()(input_features=features).logits.detach().requires_grad_()
    Teachers([folder], model(seed=1), CPU).loss(torch.tensor(0.0), logits, features).backward()
    np.testing.assert_allclose(logits.grad, 0, atol=1e-6)


def test_a_teachers_prior_is_not_handed_on(folder, tmp_path):
    wary = model()
    reweight_prior(wary, 5)
    wary.save_pretrained(tmp_path / "wary")
    features, logits = torch.randn(6, 1, 40, 26), torch.randn(6, 3)
    losses = [Teachers([path], model(), CPU).loss(torch.tensor(5.0), logits, features).item()
              for path in (folder, tmp_path / "wary")]
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize("student, key", [
    (dict(labels=("no", "_unknown_", "_silence_")), "id2label"), (dict(num_samples=8000), "num_samples"),
    (dict(log_offset=1e-3), "features")])
def test_a_teacher_of_another_task_is_refused(folder, student, key):
    with pytest.raises(ModelError, match=f"{folder}: a teacher with {key}"):
        Teachers([folder], model(**student), CPU)
