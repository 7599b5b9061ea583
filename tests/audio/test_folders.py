import os

import pytest

from kws.audio.decode import AUDIO_SUFFIXES
from kws.audio.folders import count_passed_over, describe, entries


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(folder):
    return {entry.path: entry.passed_over or entry.error for entry in entries(folder)}


def test_recordings_are_found_at_any_depth_in_the_order_of_names(tmp_path):
    tree(tmp_path, "b/2.WAV", "b/1.flac", "c.mp3", "a.wav", "b.wav/inside.ogg", "ü/x/y.wav")
    assert [entry.path for entry in entries(tmp_path)] == [
        "a.wav", "c.mp3", "b/1.flac", "b/2.WAV", "b.wav/inside.ogg", "ü/x/y.wav"]


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES))
def test_every_suffix_that_is_decoded_counts(tmp_path, suffix):
    assert found(tree(tmp_path, f"a{suffix.upper()}")) == {f"a{suffix.upper()}": ""}


def test_what_is_passed_over_has_a_reason(tmp_path):
    tree(tmp_path, "a.xyz", "B.XYZ", "README", ".hidden.wav", "._a.wav", ".git/x.wav", "Mr. Smith said so",
         "x.\x1b[31m")
    (tmp_path / "empty").mkdir()
    assert found(tmp_path) == {
        "a.xyz": ".xyz", "B.XYZ": ".xyz", "README": "without a suffix", ".hidden.wav": "hidden", "._a.wav": "hidden",
        ".git": "hidden", "Mr. Smith said so": "without a suffix", "x.\x1b[31m": "without a suffix",
        "empty": "empty folder"}


def test_links_are_followed_but_not_in_circles(tmp_path):
    tree(tmp_path, "here/a.wav", "elsewhere/b.wav")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "up").symlink_to(tmp_path)
    (tmp_path / "here" / "c.wav").symlink_to(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "here" / "gone.wav").symlink_to("nowhere")
    (tmp_path / "here" / "loop.wav").symlink_to("loop.wav")
    assert found(tmp_path / "here") == {
        "a.wav": "", "c.wav": "", "gone.wav": "", "loop.wav": "", "link/b.wav": "", "up/elsewhere/b.wav": "",
        "up/here": "link to a folder around it"}


def test_a_folder_that_cannot_be_listed_is_an_entry(tmp_path, monkeypatch):
    tree(tmp_path, "a.wav", "closed/b.wav")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == {"a.wav": "", "closed": "Permission denied"}


def test_the_count_is_told_by_kind_the_most_frequent_first(tmp_path):
    tree(tmp_path, "a.wav", *(f"{number}.xyz" for number in range(120)))
    count, kinds = count_passed_over(entries(tmp_path))
    assert (count, describe(kinds)) == (1, "120 files were passed over: 120 .xyz")
    assert describe({".txt": 1}) == "1 file was passed over: 1 .txt"
    assert describe({}) == ""
    many = describe({f".{number}": 1000 + number for number in range(20)})
    assert many.startswith("20,190 files were passed over: 1,019 .19, ") and many.endswith(", 12,066 of other kinds")
