import os
import re

import pytest

from kws.config.sections import DataConfig
from kws.data.layout import SPEAKER_PATTERN, check_layout, scan, speaker_of
from kws.data.split import SplitRule
from kws.errors import DataError
from kws.model.labels import LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def minimal(root):
    return tree(root, "yes/a_nohash_0.wav", "no/a_nohash_0.wav", "bed/a_nohash_0.wav", "bed/b_nohash_0.wav")


def refused(root):
    with pytest.raises(DataError) as caught:
        scan(root, LABELS)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)
    return caught.value.code, str(caught.value)


def test_it_lists_clips_by_path_with_word_label_and_speaker(tmp_path):
    layout = scan(minimal(tmp_path), LABELS)
    assert layout.clips.values.tolist() == [
        ["bed/a_nohash_0.wav", "_unknown_", "bed", "a"], ["bed/b_nohash_0.wav", "_unknown_", "bed", "b"],
        ["no/a_nohash_0.wav", "no", "no", "a"], ["yes/a_nohash_0.wav", "yes", "yes", "a"]]
    assert list(layout.clips) == ["path", "label", "word", "speaker"]
    assert layout.noise == ()


def test_noise_is_apart_and_reserved_folders_keep_their_label(tmp_path):
    tree(minimal(tmp_path), "_background_noise_/rain.wav", "_background_noise_/README.md", "_silence_/1.wav",
         "_unknown_/2.wav")
    layout = scan(tmp_path, LABELS)
    assert layout.noise == ("_background_noise_/rain.wav",)
    labels = dict(zip(layout.clips["word"], layout.clips["label"], strict=True))
    assert labels["_silence_"] == "_silence_" and labels["_unknown_"] == "_unknown_"
    assert "_background_noise_" not in labels


def test_talk_and_streams_are_no_words_and_nothing_is_told_of_them(tmp_path):
    tree(minimal(tmp_path), "_negative_speech_/tv.mp3", "_negative_speech_/monday/talk.flac",
         "_negative_speech_/notes.txt", "_streams_/manifest.csv", "_streams_/clean.flac", "_streams_/.cache/x.wav")
    layout = scan(tmp_path, LABELS)
    assert set(layout.clips["word"]) == {"yes", "no", "bed"}
    assert layout.noise == () and layout.passed_over == {} and layout.nameless == ()
    assert check_layout(layout, SplitRule(10.0, 10.0)) == []


def test_what_is_not_a_clip_is_counted(tmp_path):
    tree(minimal(tmp_path), "LICENSE", "README.md", "validation_list.txt", "stray.wav", ".cache/x.wav",
         "yes/._a_nohash_0.wav", "yes/notes.txt", "yes/x.m4a", "no/Icon\r", "empty/readme")
    layout = scan(tmp_path, LABELS)
    assert len(layout.clips) == 4
    assert layout.passed_over == {"without a suffix": 3, ".md": 1, "outside of a word's folder": 1, "hidden": 2,
                                  ".txt": 1, ".m4a": 1}
    told, = [problem for problem in check_layout(layout, SplitRule(10.0, 10.0)) if problem.code == "passed_over"]
    assert f"{tmp_path}: 9 files were passed over: 3 without a suffix, 2 hidden, 1 .m4a" in told.message


def test_a_word_is_the_first_folder_however_deep_its_clips_are(tmp_path):
    tree(minimal(tmp_path), "yes/deeper/b_nohash_0.wav", "bed/x/y/z.wav", "_background_noise_/a/rain.wav")
    layout = scan(tmp_path, LABELS)
    words = dict(zip(layout.clips["path"], layout.clips["word"], strict=True))
    assert (words["yes/deeper/b_nohash_0.wav"], words["bed/x/y/z.wav"]) == ("yes", "bed")
    assert layout.noise == ("_background_noise_/a/rain.wav",) and not layout.passed_over


@pytest.mark.parametrize("keyword, folders", [("zwo\u0308lf", ["zw\u00f6lf"]), ("zw\u00f6lf", ["zwo\u0308lf"]),
                                              ("zw\u00f6lf", ["zwo\u0308lf", "zw\u00f6lf"])])
def test_words_are_compared_in_one_form(tmp_path, keyword, folders):
    tree(minimal(tmp_path), *(f"{folder}/a_nohash_{number}.wav" for number, folder in enumerate(folders)))
    clips = scan(tmp_path, LabelSet.from_keywords([keyword])).clips
    own = clips[clips["label"] != "_unknown_"]
    assert set(own["word"]) == set(own["label"]) == {"zw\u00f6lf"} and len(own) == len(folders)
    assert all((tmp_path / path).is_file() for path in own["path"])


def test_the_default_pattern_is_that_of_the_configuration():
    assert DataConfig.model_fields["speaker_pattern"].default == SPEAKER_PATTERN


@pytest.mark.parametrize("pattern, path, speaker", [
    ("^[^/]+/(?P<speaker>[^/]+)/", "yes/anna/001.wav", "anna"), ("^[^/]+/(?P<speaker>[^/]+)/", "yes/001.wav", None),
    ("(?P<speaker>x*)", "yes/001.wav", None), ("(?P<speaker>x)?y", "yes/001.wav", None)])
def test_a_pattern_says_where_the_speaker_stands(pattern, path, speaker):
    assert speaker_of(path, re.compile(pattern)) == speaker


@pytest.mark.parametrize("shape", ["{word}_{name}_{take:03}.wav", "{name}_{word}_{take}.wav", "{name}-{take}.wav",
                                   "{word}-{name}-{take}.wav", "{name}/{take}.wav", "{name}/x/{word}_{take}.wav"])
def test_the_pattern_that_the_warning_suggests_finds_the_speakers(tmp_path, shape):
    people = ("anna", "bert", "cleo", "dora")
    tree(tmp_path, *(f"{word}/" + shape.format(word=word, name=name, take=take)
                     for word in ("yes", "no", "bed") for name in people for take in range(3)))
    layout = scan(tmp_path, LABELS)
    warning, = check_layout(layout, SplitRule(10.0, 10.0))
    assert warning.code == "no_speaker" and "36 of 36 clips" in warning.message and "flattered" in warning.message
    assert check_layout(layout, SplitRule(10.0, 10.0, "take"))[0].code == "split_by_take"
    pattern = warning.message.partition("data.speaker_pattern=")[2].partition(" ")[0]
    followed = scan(tmp_path, LABELS, pattern)
    assert set(followed.clips["speaker"]) == set(people)
    assert check_layout(followed, SplitRule(10.0, 10.0)) == []


def test_without_a_speaker_in_the_name_a_folder_is_advised(tmp_path):
    warning, = check_layout(scan(tree(tmp_path, "yes/1.wav", "no/2.wav", "no/3.wav", "bed/4.wav"), LABELS),
                            SplitRule(10.0, 10.0))
    assert "a folder of each person (bed/anna/4.wav)" in warning.message


def test_every_audio_format_and_case_counts(tmp_path):
    tree(minimal(tmp_path), "yes/b.flac", "yes/c.OGG", "yes/d.Mp3", "yes/e.WAV")
    assert len(scan(tmp_path, LABELS).clips) == 8


def test_broken_entries_are_listed_so_that_they_are_reported(tmp_path):
    minimal(tmp_path)
    (tmp_path / "yes" / "dangling.wav").symlink_to("nowhere")
    (tmp_path / "yes" / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "yes" / "pipe.wav")
    layout = scan(tmp_path, LABELS)
    assert {"yes/dangling.wav", "yes/pipe.wav"} <= set(layout.clips["path"])
    assert layout.passed_over == {"empty folder": 1}


def test_a_keyword_whose_files_were_passed_over_is_told_so(tmp_path):
    tree(tmp_path, "yes/a.wav", "bed/a.wav", "cat/a.wav", "no/1.m4a", "no/2.m4a")
    code, message = refused(tmp_path)
    assert code == "missing_keyword" and "2 files were passed over: 2 .m4a" in message


@pytest.mark.parametrize("name, speaker", [
    ("0a7c2a8d_nohash_0.wav", "0a7c2a8d"), ("alice_nohash_12.flac", "alice"), ("take.1.wav", "take.1"),
    ("a_nohash_b_nohash_1.wav", "a"), ("anna/1.wav", "anna/1"), ("x_nohash_1/a_nohash_2.wav", "a"),
    ("zo\u0065\u0308_nohash_0.wav", "zo\u00eb"), ("_nohash_0.wav", "_nohash_0"),
])
def test_the_speaker_is_in_the_name(tmp_path, name, speaker):
    clips = scan(tree(minimal(tmp_path), f"cat/{name}"), LABELS).clips
    assert clips[clips["word"] == "cat"]["speaker"].tolist() == [speaker]


def test_a_word_called_null_stays_a_word(tmp_path):
    clips = scan(tree(minimal(tmp_path), "null/a.wav", "NA/b.wav", "True/c.wav"), LABELS).clips
    assert {"null", "NA", "True"} <= set(clips["word"])


def test_a_missing_folder_says_how_to_fill_it(tmp_path):
    code, message = refused(tmp_path / "data")
    assert code == "no_data" and "make data" in message and "kws download" in message


def test_a_folder_without_words_says_what_is_there(tmp_path):
    tree(tmp_path, "a.wav", "b.wav", "readme.txt")
    code, message = refused(tmp_path)
    assert code == "no_data" and "2 outside of a word's folder" in message and "one folder per word" in message


def test_a_folder_of_empty_words_is_refused(tmp_path):
    tree(tmp_path, "yes/readme.txt", "no/readme.txt")
    code, message = refused(tmp_path)
    assert code == "no_data" and ".wav" in message


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    assert refused(tmp_path / "data")[0] == "unreadable"


def test_a_keyword_without_clips_is_named_with_the_words_there_are(tmp_path):
    tree(tmp_path, "yes/a.wav", "bed/a.wav", "cat/a.wav", "no/readme.txt")
    code, message = refused(tmp_path)
    assert code == "missing_keyword" and "keyword(s) no;" in message and "bed, cat, yes" in message


def test_many_words_do_not_make_a_long_message(tmp_path):
    code, message = refused(tree(tmp_path, *(f"word{number:04}/a.wav" for number in range(300))))
    assert code == "missing_keyword" and "and 260 more" in message and len(message) < 800


def test_fewer_clips_than_labels_are_refused(tmp_path):
    code, message = refused(tree(tmp_path, "yes/a.wav", "no/a.wav"))
    assert code == "too_few_clips" and "2 clip(s) for 4 labels" in message


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    minimal(tmp_path)
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("yes"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, message = refused(tmp_path)
    assert code == "unreadable" and f"{tmp_path}/yes" in message and "Permission denied" in message


@pytest.mark.parametrize("name", [b"yes/\xff\xfe.wav", b"yes/two\nlines.wav"])
def test_names_that_are_not_text_are_refused(tmp_path, name):
    minimal(tmp_path)
    try:
        open(os.path.join(os.fsencode(tmp_path), name), "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    code, message = refused(tmp_path)
    assert code == "bad_name"
    message.encode()


def test_other_scripts_are_text(tmp_path):
    clips = scan(tree(minimal(tmp_path), "да/й.wav", "はい/う \u00a0 .wav"), LABELS).clips
    assert {"да", "はい"} <= set(clips["word"])
