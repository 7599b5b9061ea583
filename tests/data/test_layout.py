import os

import pytest

from kws.data.layout import scan, speaker_of
from kws.errors import DataError
from kws.labels import LabelSet

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


def test_what_is_not_a_clip_is_ignored(tmp_path):
    tree(minimal(tmp_path), "LICENSE", "README.md", "validation_list.txt", "stray.wav", ".cache/x.wav",
         "yes/._a_nohash_0.wav", "yes/notes.txt", "yes/deeper/b_nohash_0.wav", "empty/readme")
    os.mkfifo(tmp_path / "yes" / "pipe.wav")
    assert len(scan(tmp_path, LABELS).clips) == 4


def test_every_audio_format_and_case_counts(tmp_path):
    tree(minimal(tmp_path), "yes/b.flac", "yes/c.OGG", "yes/d.Mp3", "yes/e.WAV")
    assert len(scan(tmp_path, LABELS).clips) == 8


def test_broken_entries_are_listed_so_that_they_are_reported(tmp_path):
    minimal(tmp_path)
    (tmp_path / "yes" / "dangling.wav").symlink_to("nowhere")
    (tmp_path / "yes" / "folder.wav").mkdir()
    assert {"yes/dangling.wav", "yes/folder.wav"} <= set(scan(tmp_path, LABELS).clips["path"])


@pytest.mark.parametrize("name, speaker", [
    ("0a7c2a8d_nohash_0.wav", "0a7c2a8d"), ("alice_nohash_12.flac", "alice"), ("take.1.wav", "take.1"),
    ("a_nohash_b_nohash_1.wav", "a"),
])
def test_the_speaker_is_in_the_name(name, speaker):
    assert speaker_of(name) == speaker


def test_a_word_called_null_stays_a_word(tmp_path):
    clips = scan(tree(minimal(tmp_path), "null/a.wav", "NA/b.wav", "True/c.wav"), LABELS).clips
    assert {"null", "NA", "True"} <= set(clips["word"])


def test_a_missing_folder_says_how_to_fill_it(tmp_path):
    code, message = refused(tmp_path / "data")
    assert code == "no_data" and "make data" in message and "scripts/download.py" in message


def test_a_folder_without_words_says_what_is_there(tmp_path):
    tree(tmp_path, "a.wav", "b.wav", "readme.txt")
    code, message = refused(tmp_path)
    assert code == "no_data" and "2 audio files directly in it" in message


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
