"""From a folder-per-word tree to a table of clips: nothing is decoded here."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import pandas as pd

from kws.audio import AUDIO_SUFFIXES
from kws.errors import DataError
from kws.labels import LabelSet

NOISE_FOLDER = "_background_noise_"
_SPEAKER_END = "_nohash_"  # Speech Commands: <speaker>_nohash_<number of the take>.wav
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # undecodable bytes of a name arrive as lone surrogates
_MAX_NAMED = 40  # words that a message lists


@dataclass(frozen=True)
class Layout:
    """What a data folder holds.

    Args:
        root: the data folder.
        clips: one row per audio file, sorted by `path`: `path` (relative, posix), `label`, `word`, `speaker`.
        noise: paths of the recordings of background noise, relative, posix, sorted; empty if there are none.
    """

    root: Path
    clips: pd.DataFrame
    noise: tuple[str, ...]


def scan(root: Path, labels: LabelSet) -> Layout:
    """List the audio files of a tree with one folder per word; hidden files and folders do not count.

    The folders `_silence_` and `_unknown_` hold clips of these labels.

    Raises:
        DataError: "no_data" (no folder, or no word folders in it), "unreadable", "bad_name",
            "missing_keyword" (a keyword without a clip) or "too_few_clips".
    """
    words = {name: _audio_names(root / name) for name in _folder_names(root)}
    noise = words.pop(NOISE_FOLDER, [])
    rows = [(f"{word}/{name}", labels.label_of(word), word, speaker_of(name))
            for word, names in words.items() for name in names]
    clips = pd.DataFrame(sorted(rows), columns=["path", "label", "word", "speaker"], dtype="str")
    _check_words(root, clips, labels)
    return Layout(root, clips, tuple(f"{NOISE_FOLDER}/{name}" for name in noise))


def speaker_of(name: str) -> str:
    """Read the speaker off a file's name: what stands before `_nohash_`, else the name without its suffix."""
    speaker, found, _ = name.partition(_SPEAKER_END)
    return speaker if found else name.rpartition(".")[0]


def _folder_names(root: Path) -> list[str]:
    names = [entry.name for entry in _entries(root) if entry.is_dir()]
    if names:
        return names
    files = sum(_is_audio(entry) for entry in _entries(root))
    found = f"{files:,} audio files directly in it" if files else "no folders in it"
    raise DataError(f"{root}: {found}; expected one folder per word, for example {root}/yes/*.wav. {_HOW_TO_FILL}",
                    "no_data")


def _audio_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _is_audio(entry))


def _is_audio(entry: os.DirEntry[str]) -> bool:
    """Judge by the name; dangling links and folders called a.wav count, so that they are reported, not lost."""
    is_known_kind = entry.is_file() or entry.is_symlink() or entry.is_dir()  # opening a pipe would wait for ever
    return is_known_kind and os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder without its hidden entries, sorted by name."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry for entry in listing if not entry.name.startswith(".")),
                             key=lambda entry: entry.name)
    except FileNotFoundError:
        raise DataError(f"{folder}: no such folder. {_HOW_TO_FILL}", "no_data") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; expected a folder that you may list",
                        "unreadable") from None
    for entry in entries:
        if _NOT_TEXT.search(entry.name):
            raise DataError(f"{folder}: the name {entry.name!r} is not text; expected UTF-8 without control "
                            "characters. Rename it", "bad_name")
    return entries


def _check_words(root: Path, clips: pd.DataFrame, labels: LabelSet) -> None:
    words = sorted(set(clips["word"]))
    if not words:
        raise DataError(f"{root}: no audio files in its folders; expected {_named(sorted(AUDIO_SUFFIXES))} files in "
                        f"one folder per word. {_HOW_TO_FILL}", "no_data")
    missing = [keyword for keyword in labels.keywords if keyword not in words]
    if missing:
        raise DataError(f"{root}: no clips of the keyword(s) {_named(missing)}; words there: {_named(words)}. "
                        "Add recordings, or change data.keywords", "missing_keyword")
    if len(clips) < len(labels):
        raise DataError(f"{root}: {len(clips)} clip(s) for {len(labels)} labels; expected at least one each",
                        "too_few_clips")


def _named(names: Sequence[str]) -> str:
    rest = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


_HOW_TO_FILL = ("Fill it with `make data` (synthetic), with scripts/download.py (real recordings), "
                "or give your own folder with --set data.root=FOLDER")
