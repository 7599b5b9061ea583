"""What recordings must be to train on, and what about them a user should know."""
from __future__ import annotations

from typing import Iterable

import pandas as pd
import pandera.pandas as pandera
from pandera.errors import SchemaErrors

from kws.data.inspection import Inspection
from kws.data.problems import Problem
from kws.data.split import SPLITS, TESTING, TRAINING, VALIDATION
from kws.errors import DataError
from kws.labels import SILENCE, UNKNOWN, LabelSet

MANIFEST_COLUMNS = ("path", "label", "word", "speaker", "split", "sample_rate", "num_samples", "sha256")

_SILENT_DB = -60.0  # dBFS of the peak: 33 of 32,768 steps
_CLIPPED_SHARE = 0.01
_DC_OFFSET = 0.05  # of full scale
_IMBALANCE = 10.0


def manifest_schema(labels: LabelSet) -> pandera.DataFrameSchema:
    """Describe a manifest: one row per clip; `sample_rate` and `num_samples` are those of the source file."""
    word = pandera.Check.str_length(min_value=1)
    return pandera.DataFrameSchema({
        "path": pandera.Column(str, word, unique=True),
        "label": pandera.Column(str, pandera.Check.isin(labels.names)),
        "word": pandera.Column(str, word),
        "speaker": pandera.Column(str),
        "split": pandera.Column(str, pandera.Check.isin(SPLITS)),
        "sample_rate": pandera.Column("int64", pandera.Check.ge(1)),
        "num_samples": pandera.Column("int64", pandera.Check.ge(1)),
        "sha256": pandera.Column(str, pandera.Check.str_matches("^[0-9a-f]{64}$")),
    }, strict=True, ordered=True)


def check_manifest(manifest: pd.DataFrame, labels: LabelSet, source: str) -> None:
    """Check a manifest against its schema.

    Raises:
        DataError: "bad_manifest", with the number of faults and the first of them.
    """
    try:
        manifest_schema(labels).validate(manifest, lazy=True)
    except SchemaErrors as error:
        faults = error.failure_cases
        first = faults.iloc[0]
        raise DataError(f"{source}: {len(faults):,} fault(s), first in column {first['column']}, row {first['index']}: "
                        f"found {first['failure_case']!r}; expected {first['check']}", "bad_manifest") from None


def check_clips(clips: pd.DataFrame, labels: LabelSet, sample_rate: int, min_seconds: float) -> list[Problem]:
    """Find everything that is wrong with, or odd about, a set of clips.

    Args:
        clips: one row per file: the manifest's columns, those of `Inspection` without `samples`, and `kept`: False
            for the copy of a clip that a split nearer to the final test holds already.
        labels: of the model.
        sample_rate: Hz, of the model.
        min_seconds: shorter clips are errors.
    Returns:
        errors, then warnings.
    """
    readable = clips[clips["code"] == ""]
    return [*_unreadable(clips), *_too_short(readable, min_seconds), *_shared_speakers(clips),
            *_missing_clips(clips, labels), *_unusual_format(readable, sample_rate), *_unusual_sound(readable),
            *_copies(readable), *_uneven(clips, labels)]


def check_noise(recordings: Iterable[Inspection]) -> list[Problem]:
    """Report the background recordings that cannot be read."""
    return [_error(noise.code, noise.path, noise.message) for noise in recordings if noise.code]


def _error(code: object, path: object, message: object) -> Problem:
    return Problem("error", str(code), str(path), str(message))


def _warning(code: object, path: object, message: object) -> Problem:
    return Problem("warning", str(code), str(path), str(message))


def _unreadable(clips: pd.DataFrame) -> list[Problem]:
    bad = clips[clips["code"] != ""]
    return [_error(row.code, row.path, row.message) for row in bad.itertuples()]


def _too_short(clips: pd.DataFrame, min_seconds: float) -> list[Problem]:
    return [_error("too_short", row.path, f"{row.path}: {row.seconds:.3f} s; expected at least {min_seconds:g} s")
            for row in clips[clips["seconds"] < min_seconds].itertuples()]


def _shared_speakers(clips: pd.DataFrame) -> list[Problem]:
    """A speaker in two splits would let the model be tested on voices that it was trained on."""
    problems = []
    num_splits = clips.groupby("speaker")["split"].nunique()
    shared = clips[clips["speaker"].isin(num_splits.index[num_splits > 1])]
    for speaker, rows in shared.groupby("speaker"):
        first = rows.drop_duplicates("split").sort_values("split")
        where = ", ".join(f"{row.split} ({row.path})" for row in first.itertuples())
        problems.append(_error("shared_speaker", first["path"].iloc[0],
                               f"speaker {speaker}: in {where}; expected one split. Correct the lists"))
    return problems


def _missing_clips(clips: pd.DataFrame, labels: LabelSet) -> list[Problem]:
    """Every keyword is trained and validated; without `_unknown_` clips every word sounds like a keyword."""
    problems = []
    kept = clips[clips["kept"]]
    present = set(zip(kept["label"], kept["split"], strict=True))
    for split in (TRAINING, VALIDATION):
        for label in labels.keywords:
            if (label, split) not in present:
                problems.append(_error("no_clips", label, f"{label}: no clips for {split}; expected at least one. Add "
                                       f"recordings of other speakers, or raise data.validation_percent"))
    if (UNKNOWN, TRAINING) not in present:
        problems.append(_warning("no_unknown", UNKNOWN, "no clips of other words for training: "
                                 "every word will sound like a keyword"))
    if not (kept["split"] == TESTING).any():
        problems.append(_warning("no_testing", "", "no clips for testing: the final evaluation has nothing to go by"))
    return problems


def _unusual_format(clips: pd.DataFrame, sample_rate: int) -> list[Problem]:
    other = clips[clips["sample_rate"] != sample_rate]
    several = clips[clips["channels"] > 1]
    return [*(_warning("resampled", row.path, f"{row.path}: {row.sample_rate:,} Hz, resampled to {sample_rate:,} Hz")
              for row in other.itertuples()),
            *(_warning("several_channels", row.path, f"{row.path}: {row.channels} channels, averaged")
              for row in several.itertuples())]


def _unusual_sound(clips: pd.DataFrame) -> list[Problem]:
    silent = clips[(clips["peak_db"] < _SILENT_DB) & (clips["label"] != SILENCE)]
    clipped = clips[clips["clipped"] > _CLIPPED_SHARE]
    offset = clips[clips["dc_offset"].abs() > _DC_OFFSET]
    return [*(_warning("silent", row.path, f"{row.path}: its loudest sample is at {row.peak_db:.0f} dBFS")
              for row in silent.itertuples()),
            *(_warning("clipped", row.path, f"{row.path}: {row.clipped:.1%} of its samples are at full scale")
              for row in clipped.itertuples()),
            *(_warning("dc_offset", row.path, f"{row.path}: its samples average {row.dc_offset:+.2f}; expected 0")
              for row in offset.itertuples())]


def _copies(clips: pd.DataFrame) -> list[Problem]:
    """Judge files of equal content: across splits all but one are left out, under two words one label is wrong."""
    problems: list[Problem] = []
    for _, rows in clips[clips.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
        first = rows.iloc[0]
        for row in rows.iloc[1:].itertuples():
            same = f"{row.path}: same content as {first['path']}"
            if not row.kept:
                problems.append(_warning("copy_left_out", row.path, f"{same} ({first['split']}); left out"))
            elif row.word == first["word"]:
                problems.append(_warning("copy", row.path, same))
            if row.word != first["word"]:
                problems.append(_warning("copy_of_other_word", row.path, f"{same}, another word"))
    return problems


def _uneven(clips: pd.DataFrame, labels: LabelSet) -> list[Problem]:
    counts = clips[(clips["split"] == TRAINING) & clips["label"].isin(labels.keywords)]["label"].value_counts()
    if len(counts) < 2 or counts.max() <= _IMBALANCE * counts.min():
        return []
    most, least = counts.idxmax(), counts.idxmin()
    return [_warning("imbalance", least, f"{least}: {counts.min():,} clips for training, {most} has "
                     f"{counts.max():,}; the model will favour the frequent keywords")]
