import os
import subprocess

import pytest
import yaml
from dvc.repo import Repo

from kws.tracking.provenance import dvc_hash, git_tags, machine


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments], check=True,
                   capture_output=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus/yes").mkdir(parents=True)
    (tmp_path / "corpus/yes/ünïcode.wav").write_bytes(b"abc")
    (tmp_path / "corpus/a.txt").write_bytes(b"\r\n")
    return tmp_path


def test_the_hash_is_the_one_that_dvc_writes(folder):
    (folder / "a.txt").write_bytes(b"\r\n")
    found = {name: dvc_hash(folder / name) for name in ("corpus", "a.txt")}
    with Repo.init(no_scm=True) as repo:
        repo.add(list(found))
    assert {name: yaml.safe_load((folder / f"{name}.dvc").read_text())["outs"][0]["md5"] for name in found} == found


def test_the_hash_follows_the_content(folder):
    before = dvc_hash(folder / "corpus")
    (folder / "corpus/a.txt").write_bytes(b"\n")
    assert dvc_hash(folder / "corpus") != before
    assert dvc_hash(folder / "absent") is None


def test_links_to_nothing_and_pipes_are_left_out(folder):
    before = dvc_hash(folder / "corpus")
    (folder / "corpus/yes/gone.wav").symlink_to("nowhere")
    os.mkfifo(folder / "corpus/pipe")
    assert dvc_hash(folder / "corpus") == before


def test_the_commit_and_whether_the_tree_is_dirty(folder):
    assert git_tags() == {}
    git("init", "--quiet")
    assert git_tags() == {}  # nothing is committed yet
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    commit = git_tags()["git_commit"]
    assert len(commit) == 40 and git_tags()["git_dirty"] == "false"
    (folder / "untracked").write_text("")
    assert git_tags()["git_dirty"] == "false"
    (folder / "corpus/a.txt").write_text("changed")
    assert git_tags() == {"git_commit": commit, "git_dirty": "true"}


def test_the_machine_is_described_without_its_name():
    assert "cores" in machine()
