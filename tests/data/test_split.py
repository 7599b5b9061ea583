import logging

import pandas as pd
import pytest

from kws.data.layout import speaker_of
from kws.data.split import SPLITS, assign_splits, which_set
from kws.errors import DataError

# Percentages that the published rule gives these names, computed without Python:
#   hex=$(printf %s NAME | sha1sum | cut -c34-40); bc: ((0x$hex & 134217727) * 100 / 134217727)
PERCENT = {
    "0a7c2a8d": 56.836387, "0a9f9af7": 98.058871, "060cd039": 7.819671, "0e17f595": 6.581510, "0c40e715": 16.395044,
    "bed": 84.346981, "heidi": 10.094987, "olivia": 12.941052, "alice": 24.061948, "0002d8c3": 0.976257,
    "000b2f2e": 19.985262, "000b4e1d": 0.031718, "00004f28": 9.668688, "0009bbfa": 10.478475,
}


def clips(*paths):
    return pd.DataFrame({"path": paths, "speaker": [speaker_of(path.rpartition("/")[2]) for path in paths]})


@pytest.mark.parametrize("speaker", PERCENT)
def test_the_rule_at_ten_and_ten_percent(speaker):
    expected = "validation" if PERCENT[speaker] < 10 else "testing" if PERCENT[speaker] < 20 else "training"
    assert which_set(speaker, 10.0, 10.0) == expected


@pytest.mark.parametrize("speaker", PERCENT)
def test_the_rule_next_to_a_speakers_own_percentage(speaker):
    percent = PERCENT[speaker]
    assert which_set(speaker, percent + 0.001, 0.0) == "validation"
    assert which_set(speaker, percent - 0.001, 0.002) == "testing"
    assert which_set(speaker, 0.0, percent - 0.001) == "training"


def test_zero_percent_is_nobody():
    assert {which_set(str(number), 0.0, 0.0) for number in range(200)} == {"training"}


def test_the_shared_speakers_of_these_tests_are_where_they_say(speakers):
    for split, names in speakers.items():
        assert {which_set(name, 10.0, 10.0) for name in names} == {split}


def test_the_rule_agrees_with_the_official_list_of_the_real_recordings(real_speech):
    listed = (real_speech / "validation_list.txt").read_text().split()
    official = {path.removesuffix(".wav") for path in listed}
    ours = [path for path in real_speech.glob("*/*_nohash_*.flac")]
    assert len(ours) > 12_000 and len(official) > 1_800
    for path in ours:
        expected = "validation" if f"{path.parent.name}/{path.stem}" in official else "training"
        assert which_set(speaker_of(path.name), 10.0, 10.0) == expected


def test_without_lists_the_rule_decides(tmp_path):
    table = clips("yes/060cd039_nohash_0.wav", "yes/0c40e715_nohash_0.wav", "yes/bed_nohash_3.wav")
    assert assign_splits(tmp_path, table, 10.0, 10.0).tolist() == ["validation", "testing", "training"]
    assert assign_splits(tmp_path, table, 50.0, 50.0).tolist() == ["validation", "validation", "testing"]


def test_lists_decide_where_there_are_some_whatever_the_suffix(tmp_path):
    (tmp_path / "validation_list.txt").write_text("yes/a_nohash_0.wav\r\n\n./yes/b_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/c_nohash_0.wav\n")
    table = clips("yes/a_nohash_0.flac", "yes/b_nohash_0.wav", "yes/c_nohash_0.ogg", "yes/060cd039_nohash_0.wav")
    split = assign_splits(tmp_path, table, 10.0, 10.0)
    assert split.tolist() == ["validation", "validation", "testing", "training"]
    assert split.name == "split" and set(split) == set(SPLITS)


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_one_empty_list_means_that_everything_trains(tmp_path, name):
    (tmp_path / name).write_text("")
    assert assign_splits(tmp_path, clips("yes/060cd039_nohash_0.wav"), 10.0, 10.0).tolist() == ["training"]


def test_what_both_lists_name_is_for_testing(tmp_path):
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / name).write_text("yes/a.wav\n")
    assert assign_splits(tmp_path, clips("yes/a.wav"), 10.0, 10.0).tolist() == ["testing"]


def test_listed_clips_that_are_not_there_are_counted(tmp_path, caplog):
    (tmp_path / "validation_list.txt").write_text("yes/a.wav\nyes/gone.wav\nno/gone.wav\n")
    with caplog.at_level(logging.WARNING):
        assign_splits(tmp_path, clips("yes/a.wav"), 10.0, 10.0)
    assert "2 of the 3 clips in its lists are not there, for example no/gone" in caplog.text


def test_a_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "testing_list.txt").write_bytes(b"\xff\xfe\x00yes")
    with pytest.raises(DataError, match="testing_list.txt") as caught:
        assign_splits(tmp_path, clips("yes/a.wav"), 10.0, 10.0)
    assert caught.value.code == "bad_list"
