"""The prepared store: every clip decoded, checked, cut to the model's window, and memory-mapped from then on.

manifest.csv   one row per clip: where it comes from and what it is
clips.arrow    the clips in the same order, [N, T] int16 (a Hugging Face `datasets` table)
noise.arrow    background recordings, [T'] int16 each
store.json     sample rate, window, labels, format and a digest over all that was prepared
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import pandas as pd

from kws.data.arrow import read_clips, read_noise
from kws.data.validate import NUMBER_COLUMNS, check_manifest
from kws.errors import DataError
from kws.labels import LabelSet

_FORMAT = 1  # raised when an older store would be misread


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
    digest: str = ""


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
    for column in ("label", "word"):  # stores of the first versions have them as the folders were called
        manifest[column] = manifest[column].str.normalize("NFC")
    check_manifest(manifest, labels, str(folder / "manifest.csv"))
    waveforms, noise = read_clips(folder / "clips.arrow"), read_noise(folder / "noise.arrow")
    if waveforms.shape != (len(manifest), index["num_samples"]):
        raise _bad_store(folder, f"{len(manifest):,} clips in its manifest, {waveforms.shape} in clips.arrow")
    return PreparedStore(manifest, waveforms, noise, index["sample_rate"], labels, index["digest"])


def write_index(folder: Path, manifest: pd.DataFrame, noise: pd.DataFrame, labels: LabelSet, sample_rate: int,
                num_samples: int) -> str:
    """Write manifest.csv and store.json.

    Args:
        folder: of the store.
        manifest: one row per clip of clips.arrow.
        noise: `path` and `sha256` of the recordings of noise.arrow.
        labels: of the model.
        sample_rate: Hz, of the store.
        num_samples: T.
    Returns:
        the digest: equal for equal recordings and settings.
    Raises:
        DataError: "bad_manifest".
    """
    check_manifest(manifest, labels, "manifest")
    manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    index: dict[str, Any] = {"format": _FORMAT, "sample_rate": sample_rate, "num_samples": num_samples,
                             "labels": list(labels), "noise": noise[["path", "sha256"]].to_dict("records")}
    index["digest"] = _digest(index, (folder / "manifest.csv").read_bytes())
    (folder / "store.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return str(index["digest"])


def _digest(index: Mapping[str, Any], manifest: bytes) -> str:
    settings = {key: value for key, value in index.items() if key != "digest"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + manifest).hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no prepared store there; run scripts/prepare.py with the same configuration",
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
    return DataError(f"{folder}: not a usable prepared store: {reason}; run scripts/prepare.py with the same "
                     "configuration again", "bad_store")
