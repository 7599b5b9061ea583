import errno
import os
import shutil
import stat
from collections import namedtuple

import pytest

from kws.atomic import atomic_file, atomic_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == path.parent
        temporary.write_text("whole")
    assert path.read_text() == "whole" and names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_a_file_stays_as_it_was_if_writing_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mask, expected", [(0o022, 0o644), (0o077, 0o600)])
def test_files_and_folders_have_the_usual_permissions(tmp_path, mask, expected):
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == expected
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "store"
    for content in ("old", "new"):
        with atomic_folder(path) as temporary:
            (temporary / content).write_text(content)
    assert names(path) == ["new"] and names(tmp_path) == ["store"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()], ids=repr)
def test_a_folder_stays_as_it_was_if_filling_it_fails(tmp_path, error):
    path = tmp_path / "store"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("")
    with pytest.raises(type(error)):
        with atomic_folder(path) as temporary:
            (temporary / "half").write_text("")
            raise error
    assert names(path) == ["old"] and names(tmp_path) == ["store"]


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "store"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("")
    replace = os.replace

    def fail(source, destination):
        if os.fspath(destination) == os.fspath(path) and not list(source.glob("old")):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        with atomic_folder(path) as temporary:
            (temporary / "new").write_text("")
    assert names(path) == ["old"] and names(tmp_path) == ["store"]


def test_an_interrupt_between_the_two_renames_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "store"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("")
    replace = os.replace

    def interrupted(source, destination):
        replace(source, destination)
        if ".old." in os.fspath(destination):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with atomic_folder(path) as temporary:
            (temporary / "new").write_text("")
    assert names(path) == ["old"] and names(tmp_path) == ["store"]


def test_a_file_in_the_place_of_a_folder_is_left_alone(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(NotADirectoryError) as caught:
        with atomic_folder(tmp_path / "store"):
            pass
    assert caught.value.filename == str(tmp_path / "store") and names(tmp_path) == ["store"]


def test_a_link_to_another_place_stays_a_link(tmp_path):
    (tmp_path / "disk" / "store").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/store")
    with atomic_folder(tmp_path / "link") as temporary:
        (temporary / "new").write_text("")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "disk" / "store") == ["new"]
    assert names(tmp_path) == ["disk", "link"] and names(tmp_path / "disk") == ["store"]


def test_writers_that_do_not_name_a_full_disk_are_explained(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    with pytest.raises(OSError) as caught:
        with atomic_file(tmp_path / "a.bin"):
            raise RuntimeError("unexpected pos 64 vs 0")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="mine"):
        with atomic_file(tmp_path / "a.bin"):
            raise RuntimeError("mine")
