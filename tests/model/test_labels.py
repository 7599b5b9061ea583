import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.model.labels import SILENCE, UNKNOWN, LabelSet, normal

WORDS = st.lists(st.text(min_size=1).filter(lambda word: word not in (UNKNOWN, SILENCE)), unique_by=normal, min_size=1)


def test_keywords_come_first_in_their_order_then_unknown_then_silence():
    labels = LabelSet.from_keywords(["yes", "no", "yellow"])
    assert list(labels) == ["yes", "no", "yellow", "_unknown_", "_silence_"]
    assert labels.keywords == ("yes", "no", "yellow") and len(labels) == 5
    assert [labels.index(label) for label in labels] == [0, 1, 2, 3, 4]


@given(WORDS)
def test_labels_survive_a_model_configuration(words):
    labels = LabelSet.from_keywords(words)
    backwards = dict(reversed(list(enumerate(labels))))
    assert LabelSet.from_id2label(backwards) == labels


@given(WORDS, st.text())
def test_every_word_has_a_label(words, word):
    labels = LabelSet.from_keywords(words)
    assert labels.label_of(word) in labels
    assert labels.label_of(words[0]) == labels.names[0]


def test_other_words_are_unknown_and_reserved_names_are_themselves():
    labels = LabelSet.from_keywords(["yes"])
    assert [labels.label_of(word) for word in ("yes", "Yes", "bed", "", UNKNOWN, SILENCE)] == [
        "yes", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, SILENCE]


@pytest.mark.parametrize("names", [
    ("yes", "yes", UNKNOWN, SILENCE), ("yes", SILENCE, UNKNOWN), ("yes", "no"), (UNKNOWN, "yes", UNKNOWN, SILENCE), (),
])
def test_label_sets_that_make_no_sense_are_refused(names):
    with pytest.raises(ValueError, match="labels"):
        LabelSet(names)


def test_labels_are_compared_in_one_form():
    composed, decomposed = "zw\u00f6lf", "zwo\u0308lf"
    for keyword in (composed, decomposed):
        labels = LabelSet.from_keywords([keyword])
        assert labels.keywords == (composed,)
        assert labels.label_of(composed) == labels.label_of(decomposed) == composed
        assert labels.index(decomposed) == 0
    with pytest.raises(ValueError, match="repeat"):
        LabelSet.from_keywords([composed, decomposed])


def test_a_label_that_is_not_there_has_no_index():
    with pytest.raises(ValueError):
        LabelSet.from_keywords(["yes"]).index("no")


def test_a_label_set_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LabelSet.from_keywords(["yes"]).names = ()
