"""Which clip trains, validates or tests: the data set's own lists, else its published rule on the speaker."""
from __future__ import annotations

import hashlib
import logging
import posixpath
from pathlib import Path
from typing import Optional

import pandas as pd

from kws.errors import DataError

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SPLITS = (TRAINING, VALIDATION, TESTING)
VALIDATION_LIST, TESTING_LIST = "validation_list.txt", "testing_list.txt"
# The rule and its constant: README.md of the Speech Commands archive, function which_set.
_MAX_NUM_WAVS_PER_CLASS = 2**27 - 1

logger = logging.getLogger(__name__)


def assign_splits(root: Path, clips: pd.DataFrame, validation_percent: float, testing_percent: float) -> pd.Series:
    """Give every clip its split.

    If the data folder has `validation_list.txt` or `testing_list.txt`, they decide and everything they do not name
    trains; else `which_set` does. Lists and files are compared without suffix: the official lists say `.wav`, and
    the same recordings are at home as `.flac`, too. What both lists name is for testing.

    Args:
        root: the data folder.
        clips: `path`, `speaker`, one row per clip.
        validation_percent: of the speakers, 0 to 100.
        testing_percent: of the speakers, 0 to 100.
    Returns:
        "training", "validation" or "testing" for each row of `clips`.
    Raises:
        DataError: "bad_list" if a list cannot be read.
    """
    validation, testing = _read_list(root / VALIDATION_LIST), _read_list(root / TESTING_LIST)
    if validation is None and testing is None:
        sets = {speaker: which_set(speaker, validation_percent, testing_percent) for speaker in set(clips["speaker"])}
        return clips["speaker"].map(sets).rename("split")
    names = clips["path"].map(_without_suffix)
    _warn_of_strangers(root, set(names), (validation or set()) | (testing or set()))
    split = pd.Series(TRAINING, index=clips.index, name="split", dtype="str")
    split[names.isin(validation or set())] = VALIDATION
    split[names.isin(testing or set())] = TESTING
    return split


def which_set(speaker: str, validation_percent: float, testing_percent: float) -> str:
    """Apply the published rule: a stable hash keeps a speaker in one set, however many clips are added later.

    Args:
        speaker: the file's name up to `_nohash_`.
        validation_percent: of the speakers, 0 to 100.
        testing_percent: of the speakers, 0 to 100.
    """
    digest = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percent = (digest % (_MAX_NUM_WAVS_PER_CLASS + 1)) * (100.0 / _MAX_NUM_WAVS_PER_CLASS)
    if percent < validation_percent:
        return VALIDATION
    return TESTING if percent < validation_percent + testing_percent else TRAINING


def _read_list(path: Path) -> Optional[set[str]]:
    """Read a list of `<word>/<file>` lines to names without suffix; None if there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; expected one <word>/<file>.wav per line",
                        "bad_list") from None
    return {_without_suffix(line.strip()) for line in lines if line.strip()}


def _without_suffix(path: str) -> str:
    return posixpath.splitext(posixpath.normpath(path))[0]


def _warn_of_strangers(root: Path, names: set[str], listed: set[str]) -> None:
    strangers = sorted(listed - names)
    if strangers:
        logger.warning("%s: %d of the %d clips in its lists are not there, for example %s", root, len(strangers),
                       len(listed), strangers[0])
