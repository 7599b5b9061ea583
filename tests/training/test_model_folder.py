import pytest

from kws.config.sections import DataConfig
from kws.training.model_folder import write_model_card

SUMMARY = {"num_parameters": 12345, "kept_epoch": 19, "epochs": 20, "seed": 3,
           "validation": {"accuracy": 0.951, "macro_f1": 0.954}}


@pytest.fixture
def card(tmp_path):
    def write(attribution="", licence="", summary=SUMMARY):
        data = DataConfig(keywords=("yes", "no"), clip_seconds=0.5, attribution=attribution, licence=licence)
        write_model_card(tmp_path / "README.md", data, summary)
        return (tmp_path / "README.md").read_text()

    return write


def test_it_says_what_the_model_answers_and_how_well(card):
    text = card()
    assert all(said in text for said in ("yes, no", "one of 4 labels", "0.5 s at 16,000 Hz", "12,345 parameters",
                                         "epoch 19 of 20 (seed 3)", "accuracy 95.10%", "macro-F1 95.40%"))


def test_it_names_whose_recordings_they_are_and_under_what_licence(card):
    assert "Trained on recordings of Ann.\nLicence of the recordings: CC0\n" in card("recordings of Ann", "CC0")
    assert "Trained on" not in card(licence="CC0") and "Licence" not in card("recordings of Ann")
    assert "do not say" in card() and "do not say" not in card(licence="CC0")


def test_it_says_how_words_were_taught(card):
    taught = {"num_parameters": 12345, "recordings": 20, "speakers": 5, "seed": 0,
              "left_out": {"by": "speaker", "found": 0.9, "interval": [0.7, 0.97], "others_taken": 0.02,
                           "unasked": []}}
    text = card(summary=taught)
    assert "20 recordings of 5 speaker(s)" in text and "90% were found (70% to 97%)" in text
    assert "the recordings that taught it, each left out in turn" in text
    assert "Not measured" not in text
    few = card(summary={**taught, "left_out": {**taught["left_out"], "unasked": ["fan", "lights"]}})
    assert "Not measured, as no recording could be left out: fan, lights." in few
    assert "nothing could be left out" in card(summary={**taught, "left_out": None})
