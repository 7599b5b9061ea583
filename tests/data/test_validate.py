import hashlib

import pandas as pd
import pytest

from kws.data.inspection import Inspection
from kws.data.split import SplitRule
from kws.data.validate import MANIFEST_COLUMNS, check_clips, check_manifest, check_noise
from kws.errors import DataError
from kws.model.labels import LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])
RULE = SplitRule(10.0, 10.0)
DEFAULTS = {"sample_rate": 16000, "num_samples": 16000, "channels": 1, "seconds": 1.0, "peak_db": -3.0, "rms_db": -20.0,
            "dc_offset": 0.0, "clipped": 0.0, "start_seconds": 0.0, "outside": 0.0, "heard_db": -3.0,
            "downmix": 0.0, "resampling": 0.0, "clipping": 0.0,
            "code": "", "message": "", "kept": True}


def clip(number, word, split, **changes):
    path = f"{word}/{split}{number}_nohash_0.wav"
    return {"path": path, "label": LABELS.label_of(word), "word": word, "speaker": f"{split}{number}", "split": split,
            "sha256": hashlib.sha256(path.encode()).hexdigest(), **DEFAULTS, **changes}


def clips(*changed):
    """Two keywords and another word in three splits, all well, and what else is given."""
    good = [clip(number, word, split) for split in ("testing", "validation", "training")
            for word in ("yes", "no", "bed") for number in range(2)]
    return pd.DataFrame([*good, *changed])


def found(table, **settings):
    problems = check_clips(table, LABELS, **{"sample_rate": 16000, "min_seconds": 0.1, "rule": RULE, **settings})
    assert all("\n" not in problem.message for problem in problems)
    return [(problem.severity, problem.code, problem.path) for problem in problems]


def test_good_clips_have_no_problems():
    assert found(clips()) == []


def test_a_file_that_cannot_be_read_is_an_error_in_its_own_words():
    bad = clip(9, "yes", "training", code="empty_audio", message="yes/x.wav: 0 bytes", seconds=0.0, peak_db=-120.0,
               kept=False, sha256="")
    problems = check_clips(clips(bad), LABELS, 16000, 0.1, RULE)
    assert [(problem.code, problem.message) for problem in problems] == [("empty_audio", "yes/x.wav: 0 bytes")]


def test_a_short_clip_is_an_error():
    assert found(clips(clip(9, "yes", "training", seconds=0.0999))) == [
        ("error", "too_short", "yes/training9_nohash_0.wav")]


def test_a_speaker_in_two_splits_is_one_error_however_many_clips():
    shared = [clip(10 + number, word, split, speaker="ann", path=f"{word}/ann_nohash_{number}.wav")
              for number, (word, split) in enumerate([("yes", "training"), ("no", "validation"), ("bed", "training")])]
    problems = check_clips(clips(*shared), LABELS, 16000, 0.1, RULE)
    assert [(problem.severity, problem.code) for problem in problems] == [("error", "shared_speaker")]
    assert problems[0].message.startswith("speaker ann: in training (yes/ann_nohash_0.wav), validation (no/")


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_keyword_that_a_split_lacks_is_an_error(split):
    table = clips()
    assert found(table[(table["word"] != "no") | (table["split"] != split)]) == [("error", "no_clips", "no")]


def test_left_out_clips_do_not_count():
    table = clips()
    table["kept"] = (table["word"] != "yes") | (table["split"] != "training")
    assert ("error", "no_clips", "yes") in found(table)


def test_without_other_words_or_testing_clips_there_is_a_warning():
    table = clips()
    assert found(table[table["word"] != "bed"]) == [("warning", "no_unknown", "_unknown_")]
    assert found(table[table["split"] != "testing"]) == [("warning", "no_testing", "")]


@pytest.mark.parametrize("changes, code", [
    ({"sample_rate": 44100}, "resampled"), ({"channels": 2}, "several_channels"),
    ({"peak_db": -60.1, "heard_db": -60.1}, "silent"),
    ({"heard_db": -60.1}, "empty_window"), ({"downmix": 0.51}, "channels_cancel"),
    ({"resampling": 0.51}, "above_band"), ({"clipping": 0.11}, "beyond_full_scale"), ({"outside": 0.21}, "cropped"),
    ({"clipped": 0.011}, "clipped"), ({"dc_offset": -0.06}, "dc_offset"), ({"dc_offset": 0.06}, "dc_offset"),
])
def test_unusual_clips_are_warnings(changes, code):
    assert found(clips(clip(9, "yes", "training", **changes))) == [("warning", code, "yes/training9_nohash_0.wav")]


@pytest.mark.parametrize("changes", [
    {"peak_db": -59.9, "heard_db": -59.9}, {"outside": 0.19}, {"clipped": 0.009}, {"dc_offset": 0.049},
    {"peak_db": -120.0, "heard_db": -120.0, "label": "_silence_"},
])
def test_usual_clips_are_not(changes):
    assert found(clips(clip(9, "yes", "training", **changes))) == []


def test_copies_within_a_split_are_a_warning_each():
    copies = [clip(number, "yes", "training", sha256="a" * 64) for number in (7, 8, 9)]
    assert found(clips(*copies)) == [("warning", "copy", "yes/training8_nohash_0.wav"),
                                     ("warning", "copy", "yes/training9_nohash_0.wav")]


def test_a_copy_of_a_validation_clip_is_said_to_be_left_out():
    copies = [clip(8, "yes", "validation", sha256="a" * 64), clip(9, "yes", "training", sha256="a" * 64, kept=False)]
    problems = check_clips(clips(*copies), LABELS, 16000, 0.1, RULE)
    assert [(problem.code, problem.message) for problem in problems] == [
        ("copy_left_out", "yes/training9_nohash_0.wav: same content as yes/validation8_nohash_0.wav (validation); "
                          "left out")]


def test_the_same_content_as_two_words_is_a_warning():
    copies = [clip(8, "yes", "training", sha256="a" * 64), clip(9, "no", "training", sha256="a" * 64)]
    assert found(clips(*copies)) == [("warning", "copy_of_other_word", "no/training9_nohash_0.wav")]


def test_unreadable_files_are_not_copies_of_each_other():
    bad = [clip(number, "yes", "training", code="not_found", message="gone", sha256="", kept=False)
           for number in (8, 9)]
    assert {code for _, code, _ in found(clips(*bad))} == {"not_found"}


def test_ten_times_as_many_clips_are_even_enough():
    rest = [clip(number, "yes", "training") for number in range(100, 118)]
    assert found(clips(*rest)) == []
    assert found(clips(*rest, clip(200, "yes", "training"))) == [("warning", "imbalance", "no")]


def test_noise_that_cannot_be_read_is_an_error():
    problems = check_noise([Inspection("n/a.wav"), Inspection("n/b.wav", code="too_long", message="n/b.wav: long")])
    assert [(problem.severity, problem.code, problem.message) for problem in problems] == [
        ("error", "too_long", "n/b.wav: long")]


def manifest():
    return clips()[list(MANIFEST_COLUMNS)].reset_index(drop=True)


def test_a_good_manifest_passes():
    check_manifest(manifest(), LABELS, "m.csv")


@pytest.mark.parametrize("column, value", [
    ("label", "maybe"), ("split", "train"), ("sample_rate", 0), ("num_samples", -1), ("sha256", "abc"), ("word", ""),
    ("path", ""), ("path", "yes/testing0_nohash_0.wav"),
])
def test_a_fault_in_the_manifest_is_named(column, value):
    table = manifest()
    table.loc[5, column] = value
    with pytest.raises(DataError, match=f"m.csv: .* column {column}") as caught:
        check_manifest(table, LABELS, "m.csv")
    assert caught.value.code == "bad_manifest" and "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [
    lambda table: table.drop(columns="sha256"), lambda table: table.assign(extra=1),
    lambda table: table.astype({"num_samples": str}),
], ids=["missing column", "extra column", "text for numbers"])
def test_columns_are_fixed(change):
    with pytest.raises(DataError) as caught:
        check_manifest(change(manifest()), LABELS, "m.csv")
    assert caught.value.code == "bad_manifest"
