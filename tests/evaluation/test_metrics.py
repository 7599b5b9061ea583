import numpy as np
import pytest

from kws.evaluation import metrics
from kws.inference.decision import choose
from kws.model.labels import LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])


def random_answers(count=500, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(4, size=count)
    logits = rng.normal(size=(count, 4)) + 1.5 * np.eye(4)[targets]
    odds = np.exp(logits)
    return targets, odds / odds.sum(axis=1, keepdims=True)


def test_headline_of_known_answers():
    targets, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    found = metrics.headline(targets, predicted)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)  # by hand, over the two labels that occur


def test_per_label_counts_every_label():
    rows = metrics.per_label(np.array([0, 0, 1]), np.array([0, 1, 1]), LABELS)
    assert rows["yes"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "clips": 2}
    assert rows["_silence_"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "clips": 0}


def test_confusion_rows_are_targets():
    assert metrics.confusion(np.array([0, 0, 3]), np.array([0, 2, 3]), 4).tolist() == [
        [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_calibration_error_by_hand():
    """Two clips at confidence 0.8 of which one is right, two at 0.6 both right: (2*0.3 + 2*0.4) / 4."""
    rows = np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    assert metrics.expected_calibration_error(np.array([0, 1, 0, 0]), rows) == pytest.approx(0.35)


def test_calibration_error_of_perfect_confidence_is_zero():
    assert metrics.expected_calibration_error(np.array([0, 1]), np.eye(2)) == 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_the_threshold_keeps_false_accepts_down_and_is_the_lowest_that_does(seed, rate):
    targets, rows = random_answers(seed=seed)
    point = metrics.threshold_for_false_accepts(targets, rows, LABELS, rate)
    rest = targets >= 2

    def accepts(threshold):
        return (choose(rows[rest], LABELS, threshold) < 2).mean()

    assert accepts(point.threshold) == point.false_accept_rate <= rate
    assert accepts(np.nextafter(point.threshold, 0) - 1e-12) > rate
    answered = choose(rows[~rest], LABELS, point.threshold)
    assert point.recall == pytest.approx((answered == targets[~rest]).mean())


def test_a_model_without_false_accepts_needs_no_threshold():
    targets = np.array([0, 1, 2, 3])
    assert metrics.threshold_for_false_accepts(targets, np.eye(4), LABELS) == metrics.OperatingPoint(0.0, 0.0, 1.0)


@pytest.mark.parametrize("targets", [np.array([0, 1]), np.array([2, 3])])
def test_one_kind_of_clips_alone_has_no_curves_and_no_threshold(targets):
    rows = np.full((2, 4), 0.25)
    assert metrics.keyword_curves(targets, rows, LABELS) == {}
    assert metrics.threshold_for_false_accepts(targets, rows, LABELS) is None


def test_curves_of_a_perfect_and_of_a_random_model():
    targets = np.array([0, 1, 2, 3] * 50)
    assert metrics.keyword_curves(targets, np.eye(4)[targets], LABELS)["auc"] == 1.0
    rng = np.random.default_rng(0)
    guesses = rng.dirichlet(np.ones(4), size=200)
    assert 0.35 < metrics.keyword_curves(targets, guesses, LABELS)["auc"] < 0.65


def test_worst_mistakes_come_surest_first_and_hold_no_right_answer():
    targets, rows = random_answers(50)
    predicted = rows.argmax(axis=1)
    worst = metrics.worst_mistakes(targets, predicted, rows, 5)
    assert (predicted[worst] != targets[worst]).all()
    assert (np.diff(rows[worst].max(axis=1)) <= 0).all()
    assert len(metrics.worst_mistakes(targets, targets, np.eye(4)[targets], 5)) == 0


def test_keyword_recall_weighs_keywords_alike_and_no_other_label():
    targets, predicted = np.array([0, 0, 0, 0, 1, 2, 2, 3]), np.array([0, 0, 0, 2, 0, 2, 2, 2])
    assert metrics.keyword_recall(targets, predicted, num_keywords=2) == pytest.approx(0.375)
    assert metrics.keyword_recall(np.array([2, 0]), np.array([0, 0]), num_keywords=2) == 1.0
    assert metrics.keyword_recall(np.array([2]), np.array([0]), num_keywords=2) == 0.0


def test_the_threshold_is_one_that_can_be_used():
    """False keywords with a confidence of 1 would need one above 1."""
    point = metrics.threshold_for_false_accepts(np.array([0, 1, 2, 3]), np.eye(4)[[0, 1, 0, 1]], LABELS, 0.0)
    assert (point.threshold, point.false_accept_rate, point.recall) == (1.0, 1.0, 1.0)
