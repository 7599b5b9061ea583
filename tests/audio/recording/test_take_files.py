"""Where takes go."""
import unicodedata
from collections import Counter

import numpy as np
import pytest
import soundfile

from kws.audio.recording.files import TakeFolder, checked_speaker
from kws.data.layout import scan, speaker_of
from kws.errors import DataError
from kws.model.labels import LabelSet

RATE = 16000
CLIP, TAKE = np.full(800, 0.1, np.float32), np.full(1600, 0.1, np.float32)


def test_clips_and_whole_takes_are_written_and_prepare_reads_the_clips(tmp_path):
    folder = TakeFolder(tmp_path, "anna", RATE)
    paths = [folder.write(word, CLIP, TAKE) for word in ("lights", "fan", "lights")]
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "lights/anna_nohash_0.wav", "fan/anna_nohash_0.wav", "lights/anna_nohash_1.wav"]
    layout = scan(tmp_path, LabelSet.from_keywords(["lights"]))
    assert list(layout.clips["path"]) == ["fan/anna_nohash_0.wav", "lights/anna_nohash_0.wav",
                                          "lights/anna_nohash_1.wav"]
    assert set(layout.clips["speaker"]) == {"anna"} and layout.passed_over == Counter() and layout.nameless == ()
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (RATE, 1, "PCM_16", 800)
        assert soundfile.info(tmp_path / "_takes_" / path.relative_to(tmp_path)).frames == 1600


@pytest.mark.parametrize("there, number", [
    (["lights/anna_nohash_7.wav"], 8), (["lights/anna_nohash_3.flac", "lights/ben_nohash_9.wav"], 4),
    (["_takes_/lights/anna_nohash_4.wav"], 5), (["lights/Anna_nohash_2.wav"], 3), (["lights/anna_nohash_x.wav"], 0),
    (["lights/joanna_nohash_5.wav"], 0), (["fan/anna_nohash_5.wav"], 0)])
def test_numbers_go_on(there, number, tmp_path):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    path = TakeFolder(tmp_path, "anna", RATE).write("lights", CLIP, TAKE)
    assert path.name == f"anna_nohash_{number}.wav"
    assert all((tmp_path / name).read_bytes() == b"mine" for name in there)


def test_a_folder_whose_name_is_composed_otherwise_is_the_word_s(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "zwölf")).mkdir()
    path = TakeFolder(tmp_path, "anna", RATE).write("zwölf", CLIP, TAKE)
    assert path.parent.name == unicodedata.normalize("NFD", "zwölf")
    assert TakeFolder(tmp_path, "anna", RATE).write("zwölf", CLIP, TAKE).name == "anna_nohash_1.wav"


def test_a_take_that_is_removed_leaves_nothing(tmp_path):
    folder = TakeFolder(tmp_path, "anna", RATE)
    folder.remove(folder.write("lights", CLIP, TAKE))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert folder.write("lights", CLIP, TAKE).name == "anna_nohash_0.wav"


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_in_which_nothing_was_recorded_is_as_before(made, tmp_path):
    root = tmp_path / "mine"
    if made:
        root.mkdir()
    with TakeFolder(root, "anna", RATE).alone():
        pass
    assert root.exists() is made and not list(tmp_path.glob("mine/*"))


@pytest.mark.parametrize("name", ["anna", "Anna Maria", "anna-2", "a_b", "Zoë", "张伟", "o'neil", "a.b", "nohash", "1"])
def test_the_speaker_can_be_read_back(name, tmp_path):
    path = TakeFolder(tmp_path, checked_speaker(unicodedata.normalize("NFD", name)), RATE).write("lights", CLIP, TAKE)
    assert speaker_of(f"lights/{path.name}") == name


@pytest.mark.parametrize("name", ["", " ", ".anna", "_anna", "a/b", "..", "../x", "a\\b", "a\nb", "a\0b", "\ud800",
                                  "a:b", "a_nohash_b", "a_nohash", "_nohash_", "x" * 250, "ö" * 120, "a*", "a?"])
def test_other_names_of_speakers_are_refused(name):
    with pytest.raises(DataError) as caught:
        checked_speaker(name)
    assert caught.value.code == "bad_name"
