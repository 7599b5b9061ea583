import logging
import unicodedata

import pandas as pd
import pytest

from kws.data.layout import speaker_of
from kws.data.split import SPLITS, SplitRule, assign_splits, sufficient_percent, which_set
from kws.errors import DataError

# Percentages that the published rule gives these names, computed without Python:
#   hex=$(printf %s NAME | sha1sum | cut -c34-40); bc: ((0x$hex & 134217727) * 100 / 134217727)
PERCENT = {
    "0a7c2a8d": 56.836387, "0a9f9af7": 98.058871, "060cd039": 7.819671, "0e17f595": 6.581510, "0c40e715": 16.395044,
    "bed": 84.346981, "heidi": 10.094987, "olivia": 12.941052, "alice": 24.061948, "0002d8c3": 0.976257,
    "000b2f2e": 19.985262, "000b4e1d": 0.031718, "00004f28": 9.668688, "0009bbfa": 10.478475,
}

RULE = SplitRule(10.0, 10.0)


def clips(*paths):
    return pd.DataFrame({"path": paths, "word": [path.partition("/")[0] for path in paths],
                         "speaker": [speaker_of(path) or path for path in paths]})


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
    assert assign_splits(tmp_path, table, RULE).tolist() == ["validation", "testing", "training"]
    assert assign_splits(tmp_path, table, SplitRule(50.0, 50.0)).tolist() == ["validation", "validation", "testing"]


def test_lists_decide_where_there_are_some_whatever_the_suffix(tmp_path):
    (tmp_path / "validation_list.txt").write_text("yes/a_nohash_0.wav\r\n\n./yes/b_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/c_nohash_0.wav\n")
    table = clips("yes/a_nohash_0.flac", "yes/b_nohash_0.wav", "yes/c_nohash_0.ogg", "yes/060cd039_nohash_0.wav")
    split = assign_splits(tmp_path, table, RULE)
    assert split.tolist() == ["validation", "validation", "testing", "training"]
    assert split.name == "split" and set(split) == set(SPLITS)


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_one_empty_list_means_that_everything_trains(tmp_path, name):
    (tmp_path / name).write_text("")
    assert assign_splits(tmp_path, clips("yes/060cd039_nohash_0.wav"), RULE).tolist() == ["training"]


def test_what_both_lists_name_is_for_testing(tmp_path):
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / name).write_text("yes/a.wav\n")
    assert assign_splits(tmp_path, clips("yes/a.wav"), RULE).tolist() == ["testing"]


def test_listed_clips_that_are_not_there_are_counted(tmp_path, caplog):
    (tmp_path / "validation_list.txt").write_text("yes/a.wav\nyes/gone.wav\nno/gone.wav\n")
    with caplog.at_level(logging.WARNING):
        assign_splits(tmp_path, clips("yes/a.wav"), RULE)
    assert "validation_list.txt: 2 of its 3 lines name no clip that is there, for example 'yes/gone.wav'" in caplog.text


def test_a_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "testing_list.txt").write_bytes(b"\xff\x81\x00yes")
    with pytest.raises(DataError, match="testing_list.txt") as caught:
        assign_splits(tmp_path, clips("yes/a.wav"), RULE)
    assert caught.value.code == "bad_list"


@pytest.mark.parametrize("content", [
    "yes\\a_nohash_0.wav", ".\\yes\\a_nohash_0.wav", "\ufeffyes/a_nohash_0.wav\r", "data/yes/a_nohash_0.wav",
    "/home/me/data/yes/a_nohash_0.wav", "C:\\Users\\me\\data\\yes\\a_nohash_0.WAV\r", "yes//a_nohash_0.wav",
    "./yes/../yes/a_nohash_0.wav", '"yes/a_nohash_0.wav"', " yes/a_nohash_0.wav ", "yes/a_nohash_0"])
def test_a_list_may_come_from_any_system(tmp_path, content, caplog):
    (tmp_path / "validation_list.txt").write_bytes(f"{content}\n".encode())
    table = clips("yes/a_nohash_0.wav", "yes/b_nohash_0.wav")
    assert assign_splits(tmp_path, table, RULE).tolist() == ["validation", "training"]
    assert not caplog.text


@pytest.mark.parametrize("encoding, end", [("utf-16", "\r\n"), ("utf-8", "\r"), ("utf-8-sig", "\r\n")])
def test_a_list_may_have_any_encoding_and_line_end(tmp_path, encoding, end):
    (tmp_path / "testing_list.txt").write_bytes(end.join(["yes/a.wav", "no/\u2028b.wav", ""]).encode(encoding))
    assert assign_splits(tmp_path, clips("yes/a.wav", "no/\u2028b.wav"), RULE).tolist() == ["testing", "testing"]


@pytest.mark.parametrize("on_disk, in_list", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_list_names_clips_in_any_form_of_the_letters(tmp_path, on_disk, in_list):
    path = "zwölf/müller_nohash_0.wav"
    (tmp_path / "validation_list.txt").write_text(unicodedata.normalize(in_list, path))
    table = clips(unicodedata.normalize(on_disk, path))
    assert assign_splits(tmp_path, table, RULE).tolist() == ["validation"]


def test_a_list_that_is_a_dangling_link_is_refused(tmp_path):
    (tmp_path / "testing_list.txt").symlink_to("nowhere")
    with pytest.raises(DataError, match="testing_list.txt: cannot be read"):
        assign_splits(tmp_path, clips("yes/a.wav"), RULE)


@pytest.mark.parametrize("count, expected", [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (10, (8, 1, 1)),
                                             (40, (32, 4, 4))])
def test_takes_of_every_word_are_dealt_out(tmp_path, count, expected):
    table = clips(*(f"{word}/me_nohash_{number}.wav" for word in ("yes", "no") for number in range(count)))
    split = assign_splits(tmp_path, table, SplitRule(10.0, 10.0, "take"))
    for word in ("yes", "no"):
        found = split[table["word"] == word].tolist()
        assert tuple(found.count(name) for name in SPLITS) == expected
    again = assign_splits(tmp_path, table.iloc[::-1], SplitRule(10.0, 10.0, "take"))
    assert again.sort_index().tolist() == split.tolist()


def test_no_percent_of_the_takes_is_none(tmp_path):
    table = clips(*(f"yes/me_nohash_{number}.wav" for number in range(9)))
    assert set(assign_splits(tmp_path, table, SplitRule(0.0, 0.0, "take"))) == {"training"}


def test_the_percentage_that_suffices_does(tmp_path):
    table = clips("yes/alice_nohash_0.wav", "yes/0a7c2a8d_nohash_0.wav", "no/alice_nohash_0.wav",
                  "no/0a7c2a8d_nohash_0.wav")  # at 24.06 % and 56.84 %
    percent = sufficient_percent(table.assign(label=table["word"]), RULE)
    assert percent == 25
    split = assign_splits(tmp_path, table, SplitRule(percent, 10.0))
    assert split.tolist() == ["validation", "training"] * 2
    alone = table[table["speaker"] == "alice"]
    assert sufficient_percent(alone.assign(label=alone["word"]), RULE) is None
