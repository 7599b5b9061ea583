"""The sound around detections, as files."""
import numpy as np
import pytest
import soundfile

from kws.inference import clips
from kws.inference.clips import ClipSaver
from kws.inference.decision import Detection

RATE = 1000


def word(begins, name="go", confidence=0.9):
    return Detection(name, begins, begins + 0.5, begins + 0.7, confidence)


def ramp(seconds):
    """Every sample says when it is: [T] float32."""
    return (np.arange(round(seconds * RATE)) / 32768).astype(np.float32)


def saved(folder):
    return {path.name: np.round(soundfile.read(path)[0] * 32768).astype(int) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("size", [10, 50, 1000, 20_000])
def test_a_clip_is_the_second_around_the_word(tmp_path, size):
    saver, sound = ClipSaver(tmp_path / "new" / "clips", RATE), ramp(20)
    saver.start("a/b c.wav")
    for first in range(0, len(sound), size):
        last = first + size
        saver.sound(sound[first:last])
        for begins in (3.0, 12.25):
            if first < (begins + 0.7) * RATE <= last:
                saver.detection(word(begins))
    saver.finish()
    files = saved(tmp_path / "new" / "clips")
    assert [name.partition("_0")[2] for name in files] == ["000003.70_go_0.900.wav", "000012.95_go_0.900.wav"]
    assert [(clip[0], len(clip)) for clip in files.values()] == [(2750, RATE), (12000, RATE)]
    assert all((np.diff(clip) == 1).all() for clip in files.values())


@pytest.mark.parametrize("name, prefix", [
    ("записи/кухня.wav", "записи_кухня.wav"), ("küche 2.flac", "küche_2.flac"), ("я" * 100, "я" * 40), ("-", "stdin"),
    ("a\udcffb.wav", "a_b.wav")])
def test_clips_have_the_name_of_their_source(tmp_path, name, prefix):
    saver = ClipSaver(tmp_path, RATE)
    saver.start(name)
    saver.sound(ramp(2))
    saver.detection(word(0.5))
    saver.finish()
    found, = saved(tmp_path)
    assert found.startswith(f"{prefix}_")


def test_at_the_ends_of_the_sound_it_is_as_much_as_there_is(tmp_path):
    saver = ClipSaver(tmp_path, RATE)
    saver.start("a")
    saver.sound(ramp(0.8))
    saver.detection(word(0.0, "up"))
    saver.finish()
    clip, = saved(tmp_path).values()
    assert list(clip) == list(range(800))


def test_after_a_gap_times_go_on(tmp_path):
    saver = ClipSaver(tmp_path, RATE)
    saver.start("a")
    saver.sound(ramp(3.0))
    saver.start("a", 100.0)
    saver.sound(ramp(5.0))
    saver.detection(word(102.0))
    saver.finish()
    (name, clip), = saved(tmp_path).items()
    assert "_0000102.70_" in name and clip[0] == 1750 and len(clip) == RATE


def test_what_is_live_never_replaces_what_was_kept(tmp_path):
    (tmp_path / "recording.wav").touch()
    for name in (str(tmp_path / "recording.wav"), "-"):
        saver = ClipSaver(tmp_path / name.strip("/").replace("/", "_"), RATE)
        saver.start(name)
        saver.sound(ramp(2))
        saver.detection(word(0.5))
        saver.detection(word(0.5))
        saver.finish()
    live, recorded = (sorted(path.name for path in folder.iterdir()) for folder in
                      (tmp_path / "-", next(tmp_path.glob("*recording.wav/"))))
    assert len(live) == len(recorded) == 2 and live[0].startswith("stdin_20") and "_20" not in recorded[0]


def test_a_full_disk_is_told_once(small_disk, caplog):
    saver = ClipSaver(small_disk / "clips", 16000)
    saver.start("a")
    for second in range(100):
        saver.sound(np.full(16000, 0.1, dtype=np.float32))
        if second > 1:
            saver.detection(word(second - 1.0))
    assert len(caplog.records) == 1 and "clips are lost, listening goes on" in caplog.text and saver.lost > 50
    for path in (small_disk / "clips").glob("*"):
        assert len(soundfile.read(path)[0]) == 16000 and path.suffix == ".wav", "only whole files are there"


def test_the_folder_does_not_grow_without_end(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(clips, "MAX_CLIPS", 3)
    saver = ClipSaver(tmp_path, RATE)
    for second in range(2, 9):
        saver.sound(ramp(2 if second == 2 else 1))
        saver.detection(word(second - 1.5))
    saver.finish()
    assert len(list(tmp_path.iterdir())) == 3 and len(caplog.records) == 1 and saver.lost == 4
