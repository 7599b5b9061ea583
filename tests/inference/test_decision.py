import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kws.errors import ModelError
from kws.inference.decision import check_logits, decide, probabilities
from kws.model.labels import LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e30, 1e30)))
def test_confidences_are_probabilities_of_all_labels_in_order(logits):
    for row, prediction in zip(logits, decide(logits, LABELS)):
        assert list(prediction.confidences) == list(LABELS)
        assert sum(prediction.confidences.values()) == pytest.approx(1.0)
        assert prediction.confidence == max(prediction.confidences.values())
        assert prediction.label == LABELS.names[int(np.argmax(probabilities(row[None])))]


def test_known_values():
    (prediction,) = decide(np.log([[0.7, 0.1, 0.15, 0.05]]), LABELS)
    assert prediction.label == "yes"
    assert prediction.confidences == pytest.approx({"yes": 0.7, "no": 0.1, "_unknown_": 0.15, "_silence_": 0.05})


def test_the_first_label_wins_a_tie():
    assert decide(np.array([[0.0, 1.0, 1.0, 1.0]]), LABELS)[0].label == "no"


def test_keywords_below_the_threshold_become_unknown_and_nothing_else_does():
    logits = np.log([[0.6, 0.2, 0.1, 0.1], [0.9, 0.05, 0.03, 0.02], [0.2, 0.2, 0.1, 0.5]])
    labels = [prediction.label for prediction in decide(logits, LABELS, threshold=0.7)]
    assert labels == ["_unknown_", "yes", "_silence_"]
    assert decide(logits, LABELS, threshold=0.7)[0].confidence == pytest.approx(0.1)


def test_a_confidence_equal_to_the_threshold_is_enough():
    logits = np.zeros((1, 4))
    logits[0, 0] = 1.0
    threshold = float(probabilities(logits)[0, 0])
    assert decide(logits, LABELS, threshold)[0].label == "yes"


@pytest.mark.parametrize("logits", [np.zeros((2, 3)), np.zeros(4), np.zeros((1, 2, 4)), np.full((1, 4), np.nan),
                                    np.array([[0.0, np.inf, 0.0, 0.0]])])
def test_nonsense_is_refused(logits):
    with pytest.raises(ModelError) as caught:
        decide(logits, LABELS)
    assert caught.value.code == "bad_logits"


def test_the_number_of_answers_can_be_checked():
    check_logits(np.zeros((2, 4)), LABELS, 2)
    with pytest.raises(ModelError, match=r"\[3, 4\]"):
        check_logits(np.zeros((2, 4)), LABELS, 3)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        decide(np.zeros((1, 4)), LABELS, threshold)


def test_an_empty_batch_has_no_answers():
    assert decide(np.zeros((0, 4)), LABELS) == []
