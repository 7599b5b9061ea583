"""Requirements on training recordings, and warnings about them."""
from __future__ import annotations

from typing import Collection, Iterable, Iterator

import pandas as pd
import pandera.pandas as pandera
from pandera.errors import SchemaErrors

from kws.data.inspection import Inspection
from kws.data.problems import Problem
from kws.data.split import (SPLITS, TESTING, TESTING_LIST, TRAINING, VALIDATION, VALIDATION_LIST, SplitRule,
                            sufficient_percent)
from kws.errors import DataError
from kws.model.labels import SILENCE, UNKNOWN, LabelSet

MANIFEST_COLUMNS = ("path", "label", "word", "speaker", "split", "sample_rate", "num_samples", "sha256")

_SILENT_DB = -60.0  # dBFS of the peak: 33 of 32,768 steps
_CLIPPED_SHARE = 0.01
_DC_OFFSET = 0.05  # of full scale
_IMBALANCE = 10.0
_LOST = 0.5  # of the energy, between the file and what the model hears; of what is beyond full scale less is odd
_LOST_TO_CLIPPING = 0.1
_OUTSIDE = 0.2  # of the energy: more is no rim of a word any more
_SAME_VOICES = "for a spotter of these voices only, set data.split_by=take"


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


def check_clips(clips: pd.DataFrame, labels: LabelSet, sample_rate: int, min_seconds: float, rule: SplitRule,
                listed: bool = False, is_anew: bool = True, nameless: Collection[str] = ()) -> list[Problem]:
    """Find all errors and warnings in a set of clips.

    Args:
        clips: one row per file: the manifest's columns, those of `Inspection` without `samples`, and `kept`: False
            for the copy of a clip that a split nearer to the final test holds already.
        labels: of the model.
        sample_rate: Hz, of the model.
        min_seconds: shorter clips are errors.
        rule: by which the clips were split, unless `listed`.
        listed: whether lists of the data folder split them.
        is_anew: whether a network learns from these clips alone: then it needs validation and other words.
        nameless: paths of clips of which nobody knows the speaker, see `Layout`.
    Returns:
        errors, then warnings.
    """
    readable = clips[clips["code"] == ""]
    return [*_unreadable(clips), *_too_short(readable, min_seconds),
            *_shared_speakers(clips[~clips["path"].isin(nameless)], rule),
            *_missing_clips(clips, labels, rule, listed, is_anew), *_missing_others(clips, rule, is_anew),
            *_unusual_format(readable, sample_rate), *_lost_sound(readable), *_unusual_sound(readable),
            *_copies(readable), *_uneven(clips, labels)]


def check_noise(recordings: Iterable[Inspection]) -> list[Problem]:
    """Report the background recordings that cannot be read."""
    return [_error(noise.code, noise.path, noise.message) for noise in recordings if noise.code]


def _error(code: object, path: object, message: object) -> Problem:
    return Problem("error", str(code), str(path), str(message))


def _warning(code: object, path: object, message: object) -> Problem:
    return Problem("warning", str(code), str(path), str(message))


def _unreadable(clips: pd.DataFrame) -> Iterator[Problem]:
    for row in clips[clips["code"] != ""].itertuples():
        advice = "; cut it, or raise data.max_seconds" if row.code == "too_long" else ""
        yield _error(row.code, row.path, f"{row.message}{advice}")


def _too_short(clips: pd.DataFrame, min_seconds: float) -> list[Problem]:
    return [_error("too_short", row.path, f"{row.path}: {row.seconds:.3f} s; expected at least data.min_seconds = "
                   f"{min_seconds:g} s. Remove it, or lower that")
            for row in clips[clips["seconds"] < min_seconds].itertuples()]


def _shared_speakers(clips: pd.DataFrame, rule: SplitRule) -> list[Problem]:
    """A speaker in two splits would let the model be tested on voices that it was trained on."""
    if rule.by == "take":
        return []
    problems = []
    num_splits = clips.groupby("speaker")["split"].nunique()
    shared = clips[clips["speaker"].isin(num_splits.index[num_splits > 1])]
    for speaker, rows in shared.groupby("speaker"):
        first = rows.drop_duplicates("split").sort_values("split")
        where = ", ".join(f"{row.split} ({row.path})" for row in first.itertuples())
        problems.append(_error("shared_speaker", first["path"].iloc[0], f"speaker {speaker}: in {where}; expected one "
                               f"split. Correct {VALIDATION_LIST} and {TESTING_LIST}; or, {_SAME_VOICES}"))
    return problems


def _missing_clips(clips: pd.DataFrame, labels: LabelSet, rule: SplitRule, listed: bool,
                   is_anew: bool) -> list[Problem]:
    """Every keyword is trained, and validated by what a network is to be chosen by."""
    problems = []
    kept = clips[clips["kept"]]
    present = set(zip(kept["label"], kept["split"], strict=True))
    for split in (TRAINING, VALIDATION) if is_anew or listed or rule.validation_percent else (TRAINING,):
        for label in labels.keywords:
            if (label, split) not in present:
                remedy = _remedy(clips[clips["label"].isin(labels.keywords)], label, split, rule, listed)
                problems.append(_error("no_clips", label,
                                       f"{label}: no clips for {split}; expected at least one. {remedy}"))
    return problems


def _missing_others(clips: pd.DataFrame, rule: SplitRule, is_anew: bool) -> list[Problem]:
    """Without `_unknown_` clips every word sounds like a keyword; a test that nobody wanted is not missed."""
    problems, kept = [], clips[clips["kept"]]
    if is_anew and not ((kept["label"] == UNKNOWN) & (kept["split"] == TRAINING)).any():
        problems.append(_warning("no_unknown", UNKNOWN, "no clips of other words for training: "
                                 "every word will sound like a keyword"))
    if rule.validation_percent + rule.testing_percent > 0 and not (kept["split"] == TESTING).any():
        problems.append(_warning("no_testing", "", "no clips for testing: the final evaluation has nothing to go by"))
    return problems


def _remedy(clips: pd.DataFrame, label: str, split: str, rule: SplitRule, listed: bool) -> str:
    """Say what gives a keyword clips in a split, by the reason why it has none.

    Args:
        clips: of all keywords.
        label: the keyword.
        split: that it has no clips in.
        rule, listed: as for `check_clips`.
    """
    own = clips[clips["label"] == label]
    speakers = own["speaker"].unique()
    if (own["split"] == split).any():
        return f"Those there are ({(own['split'] == split).sum():,}) cannot be read or are copies: replace them"
    if listed:
        return (f"{VALIDATION_LIST} and {TESTING_LIST} decide, and leave it none of its {len(own):,} clips: correct "
                "them, or remove both to split by the speakers' names")
    if len(own) == 1:
        return "There is one clip of it: record it at least twice more"
    if rule.by == "take":
        return "Raise data.validation_percent"
    if len(speakers) == 1:
        return (f"All of its {len(own):,} clips are of one speaker ({speakers[0]}): add recordings of other people; "
                f"or, {_SAME_VOICES}")
    percent = sufficient_percent(clips[clips["code"] == ""], rule)
    if percent is not None:
        return f"Set data.validation_percent={percent}, or add recordings of more people"
    return f"Its {len(speakers):,} speakers cannot be split so: add recordings of more people; or, {_SAME_VOICES}"


def _unusual_format(clips: pd.DataFrame, sample_rate: int) -> list[Problem]:
    other = clips[clips["sample_rate"] != sample_rate]
    several = clips[clips["channels"] > 1]
    return [*(_warning("resampled", row.path, f"{row.path}: {row.sample_rate:,} Hz, resampled to {sample_rate:,} Hz")
              for row in other.itertuples()),
            *(_warning("several_channels", row.path, f"{row.path}: {row.channels} channels, averaged")
              for row in several.itertuples())]


def _lost_sound(clips: pd.DataFrame) -> Iterator[Problem]:
    """Warn about sound lost by averaging, resampling and clipping."""
    for column, limit, code, where in (
            ("downmix", _LOST, "channels_cancel", "lost where its channels cancel each other"),
            ("resampling", _LOST, "above_band", "above half of data.sample_rate, where the model hears nothing"),
            ("clipping", _LOST_TO_CLIPPING, "beyond_full_scale", "beyond -1..1, where it is cut off")):
        for path, share in clips.loc[clips[column] > limit, ["path", column]].itertuples(index=False):
            yield _warning(code, path, f"{path}: {share:.0%} of its sound is {where}")


def _unusual_sound(clips: pd.DataFrame) -> list[Problem]:
    nothing_heard = clips[(clips["heard_db"] < _SILENT_DB) & (clips["label"] != SILENCE)]
    silent = nothing_heard[nothing_heard["peak_db"] < _SILENT_DB]
    empty = nothing_heard[nothing_heard["peak_db"] >= _SILENT_DB]
    cropped = clips[clips["outside"] > _OUTSIDE]
    clipped = clips[clips["clipped"] > _CLIPPED_SHARE]
    offset = clips[clips["dc_offset"].abs() > _DC_OFFSET]
    return [*(_warning("silent", row.path, f"{row.path}: its loudest sample is at {row.peak_db:.0f} dBFS")
              for row in silent.itertuples()),
            *(_warning("empty_window", row.path, f"{row.path}: nothing is heard in its window (peak {row.heard_db:.0f} "
                       f"dBFS), though the recording has sound (peak {row.peak_db:.0f} dBFS)")
              for row in empty.itertuples()),
            *(_warning("cropped", row.path, f"{row.path}: {row.seconds:.2f} s; the window from "
                       f"{row.start_seconds:.2f} s on is kept, and {row.outside:.0%} of the sound is outside of it. "
                       "Is it one word?")
              for row in cropped.itertuples()),
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
