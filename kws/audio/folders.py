"""Which files of a folder are recordings, and what is passed over: one rule for every command.

A recording is whatever has the suffix of one (in any case), at any depth; links are followed. Passed over, and counted:
names that begin with a dot, other suffixes, empty folders, and links that lead back to a folder around them.
"""
from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Mapping

from kws.audio.decode import AUDIO_SUFFIXES
from kws.files.places import is_remote

NOISE_FOLDER = "_background_noise_"  # recordings in which nobody speaks, beside the folders of words
NEGATIVES_FOLDER = "_negative_speech_"  # likewise, recordings of any length in which nobody says a keyword
STREAMS_FOLDER = "_streams_"  # likewise, running sound to measure on, and tables of what is said in it
TAKES_FOLDER = "_takes_"  # likewise, whole recordings that the clips of words were cut from
SUFFIXES = ", ".join(sorted(AUDIO_SUFFIXES))  # for messages
HIDDEN, EMPTY, CIRCULAR, NO_SUFFIX = "hidden", "empty folder", "link to a folder around it", "without a suffix"
_SUFFIX = re.compile(r"\.\w{1,8}")  # what looks like one: a name may go on with anything behind a dot
_MAX_KINDS = 8  # that a message lists


@dataclass(frozen=True)
class Entry:
    """Something in a folder.

    Args:
        path: relative to the folder, with slashes, as it is on disk.
        passed_over: why it is no recording, as it is counted; "" for a recording.
        error: why it is a folder that cannot be listed; "" for anything else.
    """

    path: str
    passed_over: str = ""
    error: str = ""


def entries(folder: Path) -> Iterator[Entry]:
    """List a folder and the folders in it, each in the order of names, files first; few names are held at a time.

    What has the suffix of a recording and cannot be read (a dangling link, a pipe) is listed as one: reading it tells.
    A folder that cannot be listed is an entry as well; `folder` itself is the entry ".". It may be elsewhere.
    """
    return _remote_entries(folder, "") if is_remote(folder) else _entries(folder, "", frozenset())


def describe(passed_over: Mapping[str, int]) -> str:
    """Say what was passed over, the most frequent kind first; "" if nothing was."""
    total = sum(passed_over.values())
    if not total:
        return ""
    kinds = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count:,} {kind}" for kind, count in kinds[:_MAX_KINDS])
    rest = sum(count for _, count in kinds[_MAX_KINDS:])
    return (f"{total:,} {'file was' if total == 1 else 'files were'} passed over: {named}"
            + (f", {rest:,} of other kinds" if rest else ""))


def count_passed_over(found: Iterator[Entry]) -> tuple[int, Counter[str]]:
    """Count the recordings, and what was passed over by kind."""
    kinds = Counter(entry.passed_over for entry in found)
    return kinds.pop("", 0), kinds


def _entries(folder: Path, prefix: str, around: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    """List the folder at `prefix`, "" or ending with a slash; `around` identifies the folders that it is in."""
    try:
        status = os.stat(folder / prefix)
        with os.scandir(folder / prefix) as listing:
            items = sorted(listing, key=lambda item: item.name)
    except OSError as error:
        yield Entry(prefix.rstrip("/") or ".", error=error.strerror or type(error).__name__)
        return
    identity = status.st_dev, status.st_ino
    if identity in around:
        yield Entry(prefix.rstrip("/"), CIRCULAR)
        return
    folders = []
    for item in items:
        path = prefix + item.name
        if item.name.startswith("."):
            yield Entry(path, HIDDEN)
        elif _is_folder(item):
            folders.append(item)
        else:
            yield Entry(path, _other_kind(item.name))
    if prefix and not items:
        yield Entry(prefix.rstrip("/"), EMPTY)
    for item in folders:
        yield from _entries(folder, f"{prefix}{item.name}/", around | {identity})


def _remote_entries(folder: Path, prefix: str) -> Iterator[Entry]:
    """As `_entries`, of an object store, which has no links."""
    store, around = folder.fs, f"{folder.path.rstrip('/')}/{prefix}"  # type: ignore[attr-defined]
    kinds = {item["name"].rstrip("/")[len(around):]: item["type"] for item in store.ls(around, detail=True)}
    kinds.pop("", None)  # an empty object stands for the folder itself
    folders = [name for name in sorted(kinds) if kinds[name] == "directory" and not name.startswith(".")]
    for name in sorted(set(kinds) - set(folders)):
        yield Entry(prefix + name, HIDDEN if name.startswith(".") else _other_kind(name))
    for name in folders:
        yield from _remote_entries(folder, f"{prefix}{name}/")


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # links in a circle
        return False


def _other_kind(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in AUDIO_SUFFIXES:
        return ""
    return suffix if _SUFFIX.fullmatch(suffix) else NO_SUFFIX
