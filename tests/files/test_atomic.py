import errno
import multiprocessing
import os
import shutil
import signal
import stat
import sys
import threading
from collections import namedtuple
from functools import partial

import pytest

from kws.files import atomic
from kws.files.atomic import atomic_file, atomic_folder, check_replaceable, recover


@pytest.fixture(params=["exchange", "two steps"])
def way(request, monkeypatch):
    """Both ways to replace a folder: as this system does it, and as one does that cannot exchange two paths."""
    if request.param == "two steps":
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)


@pytest.fixture
def two_steps(monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)


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


def test_a_folder_takes_the_place_of_the_old_one(tmp_path, way):
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


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch, two_steps):
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


def test_an_interrupt_between_the_two_renames_leaves_the_old_one(tmp_path, monkeypatch, two_steps):
    path = tmp_path / "store"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("")
    replace = os.replace

    def interrupted(source, destination):
        replace(source, destination)
        if os.fspath(destination).endswith(".old"):
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


def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="a folder, pipe or device"), atomic_file(tmp_path / "pipe"):
        raise AssertionError("told too late")
    assert (tmp_path / "pipe").is_fifo()


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


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_the_mask_of_other_threads_is_left_alone(tmp_path, writer, monkeypatch):
    masks = []
    monkeypatch.setattr(os, "umask", lambda mask: masks.append(mask))
    with writer(tmp_path / "a"):
        pass
    assert masks == []


def in_small_process(work, *arguments):
    """Run work in a process that forks fast, as one with PyTorch in it does not, and never waits for the disk.

    Killing a process loses nothing that it has written.
    """
    process = multiprocessing.get_context("spawn").Process(target=unflushed, args=(work, *arguments))
    process.start()
    process.join()
    assert process.exitcode == 0


def unflushed(work, *arguments):
    os.fsync = lambda handle: None
    work(*arguments)


def killed_at_step(step, work):
    """Run work in a process that SIGKILLs itself at its n-th step, and tell whether it got there.

    A step is a line of kws.files.atomic, or a function of shutil.
    """
    process = os.fork()
    if not process:
        lines = iter(range(step))

        def trace(frame, event, argument):
            stops = {"atomic.py": "line", "shutil.py": "call"}.get(os.path.basename(frame.f_code.co_filename))
            if stops == event and next(lines, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace if stops else None

        sys.settrace(trace)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def content(path):
    """A folder as {name: text}, a file as its text, None for nothing."""
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}
    return path.read_text() if path.exists() else None


def write(path, text):
    if path.suffix:
        with atomic_file(path) as temporary:
            temporary.write_text(text)
        return text
    with atomic_folder(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "a").write_text(text)
        (temporary / "sub" / "b").write_text(text)
    return {"a": text, "sub/b": text}


@pytest.mark.parametrize("name", ["a.txt", "store"])
@pytest.mark.parametrize("two_steps", [False, True], ids=["exchange", "two steps"])
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new(tmp_path, name, two_steps):
    in_small_process(kill_at_every_step, tmp_path, name, two_steps)


def kill_at_every_step(folder, name, two_steps):
    if two_steps:
        atomic._exchange = lambda first, second: False
    path, found = folder / name, []
    for step in range(1000):
        old = write(path, f"old {step}")
        new = {key: f"new {step}" for key in old} if isinstance(old, dict) else f"new {step}"
        was_killed = killed_at_step(step, partial(write, path, f"new {step}"))
        gap = not path.exists()
        recover(path)  # as readers do
        assert content(path) in (old, new), step
        found.append((content(path) == new, gap))
        if not was_killed:
            break
        write(path, "next")
        assert names(folder) == [name], step
    assert step > 20 and found[0] == (False, False) and found[-1] == (True, False)
    assert [is_new for is_new, _ in found] == sorted(is_new for is_new, _ in found)
    assert any(gap for _, gap in found) is (two_steps and name == "store")


@pytest.mark.parametrize("name", ["a.txt", "store"])
def test_a_first_write_that_is_killed_leaves_nothing_or_the_whole(tmp_path, name):
    in_small_process(kill_first_writes, tmp_path, name)


def kill_first_writes(folder, name):
    for step in range(0, 1000):
        path = folder / str(step) / name
        if not killed_at_step(step, partial(write, path, "new")):
            break
        assert content(path) in (None, {"a": "new", "sub/b": "new"}, "new"), step
        write(path, "next")
        assert names(path.parent) == [name]
    assert step > 20


def test_what_another_writer_is_at_is_left_alone(tmp_path):
    (tmp_path / ".a.txt.backup").write_text("the user's")
    with atomic_file(tmp_path / "a.txt") as first:
        with atomic_folder(tmp_path / "folder"):
            with atomic_file(tmp_path / "a.txt") as second:
                second.write_text("second")
        first.write_text("first")
    assert (tmp_path / "a.txt").read_text() == "first"
    assert names(tmp_path) == [".a.txt.backup", "a.txt", "folder"]


def test_what_is_on_the_disk_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append(os.fstat(handle).st_ino) or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: steps.append("renamed") or replace(*paths))
    write(tmp_path / "store", "x")
    inodes = {file.stat().st_ino for file in [tmp_path / "store", *(tmp_path / "store").rglob("*")]}
    assert set(steps[:steps.index("renamed")]) == inodes and len(inodes) == 4
    assert steps[steps.index("renamed") + 1:] == [tmp_path.stat().st_ino]


def test_two_threads_write_one_file(tmp_path):
    def many():
        for _ in range(20):
            write(tmp_path / "a.txt", "whole" * 1000)
    threads = [threading.Thread(target=many) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.txt").read_text() == "whole" * 1000 and names(tmp_path) == ["a.txt"]


def test_recovering_leaves_what_is_there(tmp_path):
    recover(tmp_path / "absent" / "store")
    (tmp_path / ".store.0123abcd.old").mkdir()
    (tmp_path / "store").mkdir()
    recover(tmp_path / "store")
    assert names(tmp_path) == [".store.0123abcd.old", "store"]
    (tmp_path / "store").rmdir()
    recover(tmp_path / "store")
    assert names(tmp_path) == ["store"]


def test_only_results_of_ours_are_replaced(tmp_path):
    folder = tmp_path / "model"
    check_replaceable(folder, "config.json", '"kws"')
    folder.mkdir()
    check_replaceable(folder, "config.json", '"kws"')
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(FileExistsError, match="no config.json of ours"):
        check_replaceable(folder, "config.json", '"kws"')
    check_replaceable(folder, "config.json")
    (folder / "config.json").write_text('{"model_type": "kws"}')
    check_replaceable(folder, "config.json", '"kws"')
    with pytest.raises(FileExistsError, match="recordings, which would be lost"):
        check_replaceable(folder, "config.json", '"kws"', outside=[folder / "recordings"])
    check_replaceable(folder, "config.json", '"kws"', outside=[tmp_path / "models"])
