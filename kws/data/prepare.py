"""The data job: from a data folder to a prepared store and a report on what was found."""
from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping, Optional, Sequence

import pandas as pd

from kws.audio.decode import Limits
from kws.audio.folders import NOISE_FOLDER
from kws.data.background import inspect_background
from kws.data.inspection import Inspection
from kws.data.layout import Layout, check_layout, scan
from kws.data.problems import Problem, describe_errors, log_warnings
from kws.data.split import TESTING, TRAINING, VALIDATION, SplitBy, SplitRule, assign_splits, has_lists
from kws.data.store import CLIPS_FILE, NOISE_FILE, STORE_FILES, write_index, write_samples
from kws.data.unfinished import table_of, unfinished, write_clips
from kws.data.validate import MANIFEST_COLUMNS, check_clips, check_noise
from kws.errors import DataError
from kws.files.atomic import atomic_folder
from kws.model.labels import LabelSet

_DENSEST = 2 * 192_000  # samples of a second of stereo at the highest usual rate
_FIRST_TO_KEEP = {TESTING: 0, VALIDATION: 1, TRAINING: 2}  # who keeps a clip that several splits hold


@dataclass(frozen=True)
class Report:
    """What the recordings of a data folder are.

    Args:
        root: the data folder.
        labels: of the model.
        sample_rate: Hz, of the store.
        num_samples: T of a clip of the store.
        clips: one row per file, in the order of the store: the manifest's columns, then `channels`, `seconds`,
            `peak_db`, `rms_db`, `dc_offset`, `clipped`, `start_seconds`, `outside`, `heard_db`, `code`, `message`
            (see `Inspection`) and `kept`: whether the clip is in the store.
        noise: the background recordings, one row each, as far as it applies.
        problems: errors, then warnings.
        passed_over: what the data folder holds besides recordings, by kind.
        digest: of the store; "" if none was written.
    """

    root: Path
    labels: LabelSet
    sample_rate: int
    num_samples: int
    clips: pd.DataFrame
    noise: pd.DataFrame
    problems: tuple[Problem, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def manifest(self) -> pd.DataFrame:
        """The clips of the store as its manifest lists them."""
        return self.clips.loc[self.clips["kept"], list(MANIFEST_COLUMNS)].reset_index(drop=True)


class RejectedData(DataError):
    """Recordings with errors; carries the report that lists all of them."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message, "rejected_data")
        self.report = report


def prepare(root: Path, destination: Path, *, keywords: Sequence[str], sample_rate: int, clip_seconds: float,
            min_seconds: float, max_seconds: float, speaker_pattern: str, split_by: SplitBy,
            validation_percent: float, testing_percent: float, require_noise: bool,
            is_anew: bool = True, workers: Optional[int] = None,
            listing: str = "reports/data.json") -> Report:
    """Check the recordings of a data folder and write them as a store, whole or not at all.

    If it is interrupted, the same call goes on from the clips it has finished.

    Args:
        root: the data folder.
        destination: the store; an older store there is replaced.
        keywords: words to spot, folders of `root`.
        sample_rate: Hz, of the store.
        clip_seconds: window of the store.
        min_seconds: shorter recordings are errors.
        max_seconds: longer recordings are errors.
        speaker_pattern: finds the speaker in the path of a clip, see `kws.data.layout`.
        split_by: "speaker" or "take", where the data set brings no lists, see `SplitRule`.
        validation_percent: of the speakers or takes, likewise.
        testing_percent: likewise.
        require_noise: whether missing background noise is an error.
        is_anew: whether a network learns from these recordings alone, see `check_clips`.
        workers: processes that decode; None chooses.
        listing: where the caller will list all problems; named in the error.
    Raises:
        RejectedData: if recordings have errors; nothing is written.
        DataError: "no_noise", "not_a_store" (something else is at `destination`), "in_use" (another process prepares
            it), and those of `scan`.
    """
    labels = LabelSet.from_keywords(keywords)
    _check_replaceable(destination, root)
    layout = scan(root, labels, speaker_pattern)
    if require_noise and not layout.noise:
        raise DataError(f"{root}: no audio files in {NOISE_FOLDER}; expected recordings of background noise to make "
                        f"silence from. Add some, or set data.silence_ratio=0", "no_noise")
    rule = SplitRule(validation_percent, testing_percent, split_by)
    clips = layout.clips.assign(split=assign_splits(root, layout.clips, rule))
    clips = clips.sort_values("split", key=lambda names: names.map(_FIRST_TO_KEEP), kind="stable", ignore_index=True)
    num_samples = round(clip_seconds * sample_rate)
    with unfinished(destination) as part, atomic_folder(destination) as folder:
        noise, lengths = _write_noise(folder, layout, sample_rate)
        clips = write_clips(part, clips, root, sample_rate, num_samples, _limits(max_seconds), workers)
        problems = [*check_layout(layout, rule), *check_noise(noise),
                    *check_clips(clips, labels, sample_rate, min_seconds, rule, has_lists(root), is_anew,
                                 layout.nameless)]
        problems.sort(key=lambda problem: problem.severity)
        report = Report(root, labels, sample_rate, num_samples, clips, table_of(noise), tuple(problems),
                        layout.passed_over)
        if any(problem.severity == "error" for problem in problems):
            raise RejectedData(describe_errors(problems, str(root), listing), report)
        digest = write_index(folder, report.manifest, report.noise.assign(num_samples=lengths), labels, sample_rate,
                             num_samples)
        os.replace(part / CLIPS_FILE, folder / CLIPS_FILE)  # last: until then an interruption loses no clip
    log_warnings(problems)
    return replace(report, digest=digest)


def _check_replaceable(destination: Path, root: Path) -> None:
    """Refuse to put a store in the place of something else, or of the recordings themselves."""
    if root.resolve().is_relative_to(destination.resolve()):
        raise DataError(f"{destination}: the recordings ({root}) are in it; choose another data.prepared",
                        "not_a_store")
    if not destination.exists() or (destination / "store.json").is_file():
        return
    is_part_of_one = destination.is_dir() and {path.name for path in destination.iterdir()} <= set(STORE_FILES)
    if not is_part_of_one:
        raise DataError(f"{destination}: not a prepared store; expected one, an empty folder or nothing there. "
                        "Choose another data.prepared", "not_a_store")


def _write_noise(folder: Path, layout: Layout, sample_rate: int) -> tuple[list[Inspection], list[int]]:
    """Write the readable background recordings; return what was found, without samples, and the stored lengths."""
    found, lengths = [], []
    scratch = folder / "noise.raw"
    with open(folder / NOISE_FILE, "wb") as file:
        for path in layout.noise:
            noise = inspect_background(path, layout.root, sample_rate, scratch)
            found.append(replace(noise, samples=None))
            lengths.append(0 if noise.samples is None else write_samples(file, noise.samples))
            scratch.unlink(missing_ok=True)
    return found, lengths


def _limits(max_seconds: float) -> Limits:
    """What any recording of that length may hold: then only its length is in question."""
    return Limits(max_seconds=max_seconds, max_bytes=max(Limits.max_bytes, int(max_seconds * 4 * _DENSEST)),
                  max_values=max(Limits.max_values, int(max_seconds * _DENSEST)))
