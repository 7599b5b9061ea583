"""Splits: by the lists of the data set, otherwise by its published rule on the speaker."""
from __future__ import annotations

import codecs
import hashlib
import logging
import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Literal, Optional

from kws.errors import DataError
from kws.model.labels import normal

if TYPE_CHECKING:
    import pandas as pd

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SPLITS = (TRAINING, VALIDATION, TESTING)
VALIDATION_LIST, TESTING_LIST = "validation_list.txt", "testing_list.txt"
SplitBy = Literal["speaker", "take"]
# The rule and its constant: README.md of the Speech Commands archive, function which_set.
_MAX_NUM_WAVS_PER_CLASS = 2**27 - 1
_LINE_END = re.compile("\r\n|\n|\r")  # of any system, and nothing else: a name may hold what splitlines takes for one

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitRule:
    """What decides where the data folder has no lists.

    Args:
        validation_percent: 0 to 100, of the speakers, or of the clips of each word.
        testing_percent: likewise.
        by: "speaker": nobody is in two splits, the figures hold for people whom the model never heard; "take": every
            word's clips are dealt out whoever speaks, the figures hold for these voices only.
    """

    validation_percent: float
    testing_percent: float
    by: SplitBy = "speaker"


def assign_splits(root: Path, clips: pd.DataFrame, rule: SplitRule) -> pd.Series:
    """Give every clip its split.

    If the data folder has `validation_list.txt` or `testing_list.txt`, they decide and everything they do not name
    trains; else the rule does. Lists and files are compared without suffix: the official lists say `.wav`, and
    the same recordings are at home as `.flac`, too. What both lists name is for testing.

    Args:
        root: the data folder.
        clips: `path`, `word`, `speaker`, one row per clip.
        rule: for a folder without lists.
    Returns:
        "training", "validation" or "testing" for each row of `clips`.
    Raises:
        DataError: "bad_list" if a list cannot be read.
    """
    if has_lists(root):
        return _split_by_lists(root, clips)
    if rule.by == "take":
        return _split_takes(clips, rule)
    sets = {speaker: which_set(speaker, rule.validation_percent, rule.testing_percent)
            for speaker in set(clips["speaker"])}
    return clips["speaker"].map(sets).rename("split")


def has_lists(root: Path) -> bool:
    """Whether a data folder has split lists."""
    return any(os.path.lexists(root / name) for name in (VALIDATION_LIST, TESTING_LIST))


def which_set(speaker: str, validation_percent: float, testing_percent: float) -> str:
    """Apply the published rule: a stable hash keeps a speaker in one set, however many clips are added later.

    Args:
        speaker: the file's name up to `_nohash_`.
        validation_percent: of the speakers, 0 to 100.
        testing_percent: of the speakers, 0 to 100.
    """
    percentage = _percentage(speaker)
    if percentage < validation_percent:
        return VALIDATION
    return TESTING if percentage < validation_percent + testing_percent else TRAINING


def sufficient_percent(clips: pd.DataFrame, rule: SplitRule) -> Optional[int]:
    """Find the validation percentage nearest to the rule's with which every label is trained and validated.

    Args:
        clips: `label`, `speaker`, one row per clip.
        rule: by speaker.
    Returns:
        1 to 50; None if there is none.
    """
    place = clips["speaker"].map(_percentage).groupby(clips["label"])
    first, last = place.min().max(), place.max().min()
    enough = [percent for percent in range(1, 51) if first < percent and last >= percent + rule.testing_percent]
    return min(enough, key=lambda percent: abs(percent - rule.validation_percent), default=None)


def _percentage(name: str) -> float:
    digest = int(hashlib.sha1(name.encode()).hexdigest(), 16)
    return digest % (_MAX_NUM_WAVS_PER_CLASS + 1) * (100.0 / _MAX_NUM_WAVS_PER_CLASS)


def _split_takes(clips: pd.DataFrame, rule: SplitRule) -> pd.Series:
    """Deal out the clips of every word, in the order of the published hash of their paths.

    Of two clips of a word one validates, of three one tests as well: few recordings are the usual case here.
    """
    order = clips["path"].map(normal).map(_percentage)
    rank = order.groupby(clips["word"]).rank(method="first") - 1
    count = clips.groupby("word")["path"].transform("size")
    validation = _share(count, rule.validation_percent).clip(upper=count - 1)
    testing = _share(count, rule.testing_percent).clip(upper=count - 1 - validation)
    split = clips["path"].map(lambda path: TRAINING).rename("split")
    split[rank < validation + testing] = TESTING
    split[rank < validation] = VALIDATION
    return split


def _share(count: pd.Series, percent: float) -> pd.Series:
    """At least one, if any are wanted."""
    return (count * percent / 100).round().clip(lower=1 if percent else 0)


def _split_by_lists(root: Path, clips: pd.DataFrame) -> pd.Series:
    names = clips["path"].map(normal).map(_without_suffix)
    known = set(names)
    listed = {name: _read_list(root / name, known) for name in (VALIDATION_LIST, TESTING_LIST)}
    split = clips["path"].map(lambda path: TRAINING).rename("split")
    split[names.isin(listed[VALIDATION_LIST])] = VALIDATION
    split[names.isin(listed[TESTING_LIST])] = TESTING
    return split


def _read_list(path: Path, known: set[str]) -> set[str]:
    """Read the clips that a list names; empty if there is no such file.

    Args:
        path: of the list, `<word>/<file>` a line.
        known: the clips that are there, without suffix.
    """
    if not os.path.lexists(path):
        return set()
    try:
        content = path.read_bytes()
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell's > writes it
        lines = _LINE_END.split(content.decode("utf-16" if is_utf16 else "utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; expected one <word>/<file>.wav per line",
                        "bad_list") from None
    found = {line: next((name for name in _spellings(line) if name in known), None) for line in lines if line.strip()}
    unmatched = [line for line, name in found.items() if name is None]
    if unmatched:
        logger.warning("%s: %d of its %d lines name no clip that is there, for example %r; expected <word>/<file>.wav",
                       path, len(unmatched), len(found), unmatched[0])
    return {name for name in found.values() if name is not None}


def _spellings(line: str) -> Iterator[str]:
    """Return every reading of a line as a clip name: unchanged, with backslashes, quoted, or from a parent folder."""
    bare = line.strip().strip("\"'")
    for text in (line, bare, posixpath.normpath(bare.replace("\\", "/"))):
        path = normal(text)
        while path:
            yield _without_suffix(path)
            yield path  # that has no suffix, but a dot
            path = path.partition("/")[2]


def _without_suffix(path: str) -> str:
    return os.path.splitext(path)[0]
