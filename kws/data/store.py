"""The prepared store: every clip decoded, checked, cut to the model's window, and memory-mapped from then on.

    manifest.csv   one row per clip: where it comes from and what it is
    clips.arrow    the clips in the same order, [N, T] int16 (a Hugging Face `datasets` table)
    noise.arrow    background recordings, [T'] int16 each
    store.json     sample rate, window, labels, format and a digest over all that was prepared
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from kws.atomic import atomic_folder
from kws.audio import Limits
from kws.data.arrow import ClipWriter, read_clips, read_noise, write_noise
from kws.data.inspection import Inspection, inspect_file, inspect_files
from kws.data.layout import NOISE_FOLDER, Layout, scan
from kws.data.problems import Problem, describe_errors, log_warnings
from kws.data.split import TESTING, TRAINING, VALIDATION, assign_splits
from kws.data.validate import MANIFEST_COLUMNS, NUMBER_COLUMNS, check_clips, check_manifest, check_noise
from kws.errors import DataError
from kws.labels import LabelSet

_FORMAT = 1  # of the store; raised when an older store would be misread
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
            `peak_db`, `rms_db`, `dc_offset`, `clipped`, `code`, `message` (see `Inspection`) and `kept`: whether
            the clip is in the store.
        noise: the background recordings, one row each, as far as it applies.
        problems: errors, then warnings.
        digest: of the store; "" if none was written.
    """

    root: Path
    labels: LabelSet
    sample_rate: int
    num_samples: int
    clips: pd.DataFrame
    noise: pd.DataFrame
    problems: tuple[Problem, ...]
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


@dataclass(frozen=True)
class PreparedStore:
    """A prepared store.

    Args:
        manifest: one row per clip: `path`, `label`, `word`, `speaker`, `split`, `sample_rate` (Hz) and `num_samples`
            of the source file, `sha256`; index 0..N-1.
        waveforms: [N, T] int16, read-only view of the file; / 32768 gives -1..1.
        noise: background recordings by file name, [T'] int16 likewise, at the same rate.
        sample_rate: Hz, of `waveforms` and `noise`.
        labels: of the model that it was prepared for.
        digest: names the content; equal for equal recordings and settings.
    """

    manifest: pd.DataFrame
    waveforms: np.ndarray
    noise: dict[str, np.ndarray]
    sample_rate: int
    labels: LabelSet
    digest: str


def prepare(root: Path, destination: Path, *, keywords: Sequence[str], sample_rate: int, clip_seconds: float,
            min_seconds: float, max_seconds: float, validation_percent: float, testing_percent: float,
            require_noise: bool, workers: Optional[int] = None, listing: str = "reports/data.json") -> Report:
    """Check the recordings of a data folder and write them as a store, whole or not at all.

    Args:
        root: the data folder.
        destination: the store; an older store there is replaced.
        keywords: words to spot, folders of `root`.
        sample_rate: Hz, of the store.
        clip_seconds: window of the store.
        min_seconds: shorter recordings are errors.
        max_seconds: longer recordings are errors.
        validation_percent: of the speakers, where the data set brings no lists.
        testing_percent: of the speakers, likewise.
        require_noise: whether missing background noise is an error.
        workers: processes that decode; None chooses.
        listing: where the caller will list all problems; named in the error.
    Raises:
        RejectedData: if recordings have errors; nothing is written.
        DataError: "no_noise", "not_a_store" (something else is at `destination`), and those of `scan`.
    """
    labels = LabelSet.from_keywords(keywords)
    _check_replaceable(destination, root)
    layout = scan(root, labels)
    if require_noise and not layout.noise:
        raise DataError(f"{root}: no audio files in {NOISE_FOLDER}; expected recordings of background noise to make "
                        f"silence from. Add some, or set data.silence_ratio=0", "no_noise")
    split = assign_splits(root, layout.clips, validation_percent, testing_percent)
    clips = layout.clips.assign(split=split)
    clips = clips.sort_values("split", key=lambda names: names.map(_FIRST_TO_KEEP), kind="stable", ignore_index=True)
    num_samples = round(clip_seconds * sample_rate)
    with atomic_folder(destination) as folder:
        noise = _write_noise(folder, layout, sample_rate)
        with ClipWriter(folder / "clips.arrow", num_samples) as writer:
            clips = _write_clips(writer, clips, root, sample_rate, num_samples, Limits(max_seconds=max_seconds), workers)
            problems = [*check_noise(noise), *check_clips(clips, labels, sample_rate, min_seconds)]
            problems.sort(key=lambda problem: problem.severity)
            report = Report(root, labels, sample_rate, num_samples, clips, _table(noise), tuple(problems))
            if any(problem.severity == "error" for problem in problems):
                raise RejectedData(describe_errors(problems, str(root), listing), report)
            writer.finish()
        digest = _write_index(folder, report)
    log_warnings(problems)
    return Report(**{**vars(report), "digest": digest})


def load_store(folder: Path) -> PreparedStore:
    """Open a prepared store; no clip is read until it is used.

    Raises:
        DataError: "no_store", "bad_store" or "bad_manifest": missing, incomplete, of another version, or edited.
    """
    index = _read_index(folder)
    labels = LabelSet(tuple(index["labels"]))
    text = _read(folder / "manifest.csv")
    if _digest(index, text) != index["digest"]:
        raise _bad_store(folder, "its files do not belong together (edited, or half a copy)")
    # As text first: pandas would read a word called "null" as a missing value.
    manifest = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    manifest = manifest.astype(dict.fromkeys(NUMBER_COLUMNS, "int64"))
    check_manifest(manifest, labels, str(folder / "manifest.csv"))
    waveforms, noise = read_clips(folder / "clips.arrow"), read_noise(folder / "noise.arrow")
    if waveforms.shape != (len(manifest), index["num_samples"]):
        raise _bad_store(folder, f"{len(manifest):,} clips in its manifest, {waveforms.shape} in clips.arrow")
    return PreparedStore(manifest, waveforms, noise, index["sample_rate"], labels, index["digest"])


def _check_replaceable(destination: Path, root: Path) -> None:
    """Refuse to put a store in the place of something else, or of the recordings themselves."""
    holds_something = destination.exists() and not (destination.is_dir() and not any(destination.iterdir()))
    if holds_something and not (destination / "store.json").is_file():
        raise DataError(f"{destination}: not a prepared store; expected one, an empty folder or nothing there. "
                        "Choose another data.prepared", "not_a_store")
    if root.resolve().is_relative_to(destination.resolve()):
        raise DataError(f"{destination}: the recordings ({root}) are in it; choose another data.prepared",
                        "not_a_store")


def _write_noise(folder: Path, layout: Layout, sample_rate: int) -> list[Inspection]:
    """Write the readable background recordings; return what was found, without samples."""
    found: list[Inspection] = []

    def readable() -> Any:
        for path in layout.noise:
            noise = inspect_file(path, layout.root, sample_rate, None, Limits())
            found.append(_without_samples(noise))
            if noise.samples is not None:
                yield Path(path).name, noise.samples

    write_noise(folder / "noise.arrow", readable())
    return found


def _write_clips(writer: ClipWriter, clips: pd.DataFrame, root: Path, sample_rate: int, num_samples: int,
                 limits: Limits, workers: Optional[int]) -> pd.DataFrame:
    """Write each clip as it is inspected; a content that an earlier split holds is left out.

    Returns:
        `clips` with what was found, and `kept`.
    """
    holders: dict[str, str] = {}  # sha256 -> split; the clips come in the order of _FIRST_TO_KEEP
    found, kept = [], []
    inspections = inspect_files(clips["path"].tolist(), root, sample_rate, num_samples, limits, workers)
    progress = tqdm(inspections, "recordings", total=len(clips), unit="clip", disable=None)
    for clip, split in zip(progress, clips["split"], strict=True):
        is_kept = not clip.code and holders.setdefault(clip.sha256, split) == split
        if is_kept:
            assert clip.samples is not None
            writer.add(clip.samples)
        found.append(_without_samples(clip))
        kept.append(is_kept)
    table = pd.concat([clips, _table(found).drop(columns="path")], axis=1).assign(kept=kept)
    return table[[*MANIFEST_COLUMNS, *table.columns.difference(MANIFEST_COLUMNS, sort=False)]]


def _without_samples(inspection: Inspection) -> Inspection:
    return Inspection(**{**vars(inspection), "samples": None})


def _table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    names = [name for name in Inspection.__dataclass_fields__ if name != "samples"]
    return pd.DataFrame([asdict(inspection) for inspection in inspections], columns=names)


def _write_index(folder: Path, report: Report) -> str:
    """Write manifest.csv and store.json; return the digest."""
    check_manifest(report.manifest, report.labels, str(report.root))
    report.manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    noise = report.noise[["path", "sha256"]].to_dict("records")
    index: dict[str, Any] = {"format": _FORMAT, "sample_rate": report.sample_rate, "num_samples": report.num_samples,
                             "labels": list(report.labels), "noise": noise}
    index["digest"] = _digest(index, (folder / "manifest.csv").read_bytes())
    (folder / "store.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return str(index["digest"])


def _digest(index: Mapping[str, Any], manifest: bytes) -> str:
    settings = {key: value for key, value in index.items() if key != "digest"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + manifest).hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no prepared store there; run `python scripts/prepare.py configs/kws.yaml`",
                        "no_store")
    try:
        index = json.loads(_read(folder / "store.json"))
    except ValueError:
        raise _bad_store(folder, "store.json is not JSON") from None
    found = index.get("format") if isinstance(index, dict) else None
    if found != _FORMAT:
        raise _bad_store(folder, f"format {found}; this program reads format {_FORMAT}")
    return dict(index)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _bad_store(path.parent, f"{path.name} cannot be read: {error.strerror}") from None


def _bad_store(folder: Path, reason: str) -> DataError:
    return DataError(f"{folder}: not a usable prepared store: {reason}; run `python scripts/prepare.py "
                     "configs/kws.yaml` again", "bad_store")
