"""From a folder-per-word tree to a table of clips: nothing is decoded here."""
from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

import pandas as pd

from kws.audio.folders import (NEGATIVES_FOLDER, NOISE_FOLDER, STREAMS_FOLDER, SUFFIXES, TAKES_FOLDER, Entry, describe,
                               entries)
from kws.data.problems import Problem
from kws.data.split import TESTING_LIST, VALIDATION_LIST, SplitRule
from kws.errors import DataError
from kws.model.labels import CONTROL, SILENCE, LabelSet, normal

# Where the speaker stands in the path of a clip. Speech Commands: <word>/<speaker>_nohash_<number of the take>.wav
SPEAKER_PATTERN = "(?P<speaker>[^/]+?)_nohash_[^/]*$"
NO_WORD = "outside of a word's folder"
_READ_ELSEWHERE = (VALIDATION_LIST, TESTING_LIST, NEGATIVES_FOLDER, STREAMS_FOLDER, TAKES_FOLDER)
_MAX_NAMED = 40  # words that a message lists


@dataclass(frozen=True)
class Layout:
    """What a data folder holds.

    Args:
        root: the data folder.
        clips: one row per audio file, sorted by `path`: `path` (relative, posix, as on disk), `label`, `word`,
            `speaker`; words and speakers in their normal form.
        noise: paths of the recordings of background noise, relative, posix, sorted; empty if there are none.
        nameless: paths of the clips of words whose speaker is not in their path: their name in the word's folder
            stands for one, so that clips of one name count as one speaker's.
        passed_over: what the folder holds besides, by kind.
    """

    root: Path
    clips: pd.DataFrame
    noise: tuple[str, ...]
    nameless: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)


def scan(root: Path, labels: LabelSet, speaker_pattern: str = SPEAKER_PATTERN) -> Layout:
    """List the recordings of a tree with one folder per word, at any depth in it; `kws.audio.folders` says what is one.

    The folders `_silence_` and `_unknown_` hold clips of these labels; `_negative_speech_` and `_streams_` belong to
    training and measuring for running sound, `_takes_` is what clips were cut from.

    Args:
        root: the data folder.
        labels: of the model.
        speaker_pattern: see `speaker_of`.
    Raises:
        DataError: "no_data" (no folder, or no word folders in it), "unreadable", "bad_name",
            "missing_keyword" (a keyword without a clip) or "too_few_clips".
    """
    rows, noise, nameless = [], [], []
    passed_over: Counter[str] = Counter()
    pattern = re.compile(speaker_pattern)
    for entry in _readable(root):
        folder, _, inside = entry.path.partition("/")
        if entry.path in _READ_ELSEWHERE or folder in _READ_ELSEWHERE:
            continue
        if entry.passed_over or not inside:
            passed_over[entry.passed_over or NO_WORD] += 1
        elif folder == NOISE_FOLDER:
            noise.append(_checked(root, entry.path))
        else:
            word, speaker = normal(folder), speaker_of(_checked(root, entry.path), pattern)
            if speaker is None and word != SILENCE:
                nameless.append(entry.path)
            rows.append((entry.path, labels.label_of(word), word, speaker or normal(inside).rpartition(".")[0]))
    clips = pd.DataFrame(sorted(rows), columns=["path", "label", "word", "speaker"], dtype="str")
    _check_words(root, clips, labels, passed_over)
    return Layout(root, clips, tuple(sorted(noise)), tuple(sorted(nameless)), passed_over)


def speaker_of(path: str, pattern: re.Pattern[str] = re.compile(SPEAKER_PATTERN)) -> Optional[str]:
    """Read the speaker off a clip's path.

    Args:
        path: of the clip below the data folder.
        pattern: finds the speaker, its group of that name, somewhere in the path.
    Returns:
        the speaker in normal form; None if the pattern finds none.
    """
    found = pattern.search(normal(path))
    return (found["speaker"] or None) if found else None


def _readable(root: Path) -> Iterator[Entry]:
    """List everything below the data folder; a folder that cannot be listed is an error."""
    if not root.exists():
        raise DataError(f"{root}: no such folder. {_HOW_TO_FILL}", "no_data")
    for entry in entries(root):
        if entry.error:
            raise DataError(f"{root / entry.path}: cannot be read: {entry.error}; expected a folder that you may list",
                            "unreadable")
        yield entry


def _checked(root: Path, path: str) -> str:
    if CONTROL.search(path):
        raise DataError(f"{root}: the name {path!r} is not text; expected UTF-8 without control characters. Rename it",
                        "bad_name")
    return path


def _check_words(root: Path, clips: pd.DataFrame, labels: LabelSet, passed_over: Mapping[str, int]) -> None:
    words = sorted(set(clips["word"]))
    told = f". {describe(passed_over)}" if passed_over else ""
    if not words:
        raise DataError(f"{root}: no recordings ({SUFFIXES}) in folders of words; expected one folder per word, for "
                        f"example {root}/yes/*.wav{told or f'. {_HOW_TO_FILL}'}", "no_data")
    missing = [keyword for keyword in labels.keywords if keyword not in words]
    if missing:
        raise DataError(f"{root}: no clips of the keyword(s) {_named(missing)}; words there: {_named(words)}. "
                        f"Add recordings, or change data.keywords{told}", "missing_keyword")
    if len(clips) < len(labels):
        raise DataError(f"{root}: {len(clips)} clip(s) for {len(labels)} labels; expected at least one each{told}",
                        "too_few_clips")


def check_layout(layout: Layout, rule: SplitRule) -> list[Problem]:
    """Report what of a data folder is not used, and what the figures of a model trained on it will not mean."""
    problems = []
    told = describe(layout.passed_over)
    if told:
        problems.append(Problem("warning", "passed_over", "", f"{layout.root}: {told}; recordings end with {SUFFIXES} "
                                "and are in the folder of their word, or deeper in it"))
    if rule.by == "take":
        problems.append(Problem("warning", "split_by_take", "", "data.split_by is take: the people who train the model "
                                "also validate and test it; all figures hold for these voices only"))
    elif layout.nameless:
        problems.append(Problem("warning", "no_speaker", layout.nameless[0], _nameless(layout)))
    return problems


def _nameless(layout: Layout) -> str:
    example = layout.nameless[0]
    return (f"{len(layout.nameless):,} of {len(layout.clips):,} clips, for example {example}: data.speaker_pattern "
            "finds no speaker in the path, so the file's name stands for one; the same people may be in all "
            f"splits, and accuracy is flattered. Say where the speaker stands: {_suggestion(example)}")


def _suggestion(path: str) -> str:
    """Suggest a pattern for paths like this one: a folder for each person, or the first part of the name."""
    word, *folders, name = path.split("/")
    separator = next((mark for mark in "_-" if mark in name), "")
    if folders:
        return "data.speaker_pattern=^[^/]+/(?P<speaker>[^/]+)/ for a folder of each person"
    if not separator:
        return (f"for example in a folder of each person ({word}/anna/{name}), with "
                "data.speaker_pattern=^[^/]+/(?P<speaker>[^/]+)/")
    other = f"[^/{separator}]"
    before = f"{other}+{separator}" if name.partition(separator)[0] == word else ""
    return f"data.speaker_pattern=^[^/]+/{before}(?P<speaker>{other}+){separator} for names like this"


def _named(names: Sequence[str]) -> str:
    rest = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


_HOW_TO_FILL = ("`make data` fills data/ with synthetic recordings; `kws synthesize` and `kws download` "
                "(real ones) fill any folder; or give your own with --set data.root=FOLDER")
