"""The prepared store: every clip decoded, checked, cut to the model's window, and memory-mapped from then on.

manifest/     one row per clip: where it comes from and what it is (a Hugging Face dataset, for `load_from_disk`)
clips.s16     the clips in the same order, [N, T] int16, little-endian, nothing else
noise.s16     the background recordings likewise, [T'] each, one after the other
store.json    sample rate, window, labels, length of each background recording, format and a digest over all that
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Mapping, Sequence

import numpy as np
import pandas as pd
from datasets import Dataset, disable_progress_bars, load_from_disk

from kws.data.validate import MANIFEST_COLUMNS, check_manifest
from kws.errors import DataError
from kws.model.labels import LabelSet

STORE_FILES = INDEX_FILE, MANIFEST_FOLDER, CLIPS_FILE, NOISE_FILE = "store.json", "manifest", "clips.s16", "noise.s16"
SAMPLE = np.dtype("<i2")
_ROWS = 65_536  # of the manifest, as text at a time
_FORMAT = 2  # raised when an older store would be misread


@dataclass(frozen=True)
class PreparedStore:
    """A prepared store.

    Args:
        manifest: one row per clip: `path`, `label`, `word`, `speaker`, `split`, `sample_rate` (Hz) and `num_samples`
            of the source file, `sha256`; index 0..N-1.
        waveforms: [N, T] int16, read-only view of the file; / FULL_SCALE (kws.model.window) gives -1..1.
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

    def split(self, name: str, left_out: Sequence[str] = ()) -> pd.DataFrame:
        """Return the rows of the manifest that are in a split, but for those of words left out.

        Raises:
            DataError: "no_such_word" if the store, in whatever split, holds no recording of a word left out.
        """
        absent = sorted(set(left_out) - set(self.manifest["word"]))
        if absent:
            raise DataError(f"left_out: no recordings of {', '.join(absent)}; expected words of the store",
                            "no_such_word")
        return self.manifest[(self.manifest["split"] == name) & ~self.manifest["word"].isin(left_out)]


def load_store(folder: Path) -> PreparedStore:
    """Open a prepared store; no clip is read until it is used.

    Raises:
        DataError: "no_store", "bad_store" or "bad_manifest": missing, incomplete, of another version, or edited.
    """
    index = _read_index(folder)
    labels = LabelSet(tuple(index["labels"]))
    manifest = _read_manifest(folder / MANIFEST_FOLDER)
    if _digest(index, manifest) != index["digest"]:
        raise _bad_store(folder, "its files do not belong together (edited, or half a copy)")
    check_manifest(manifest, labels, str(folder / MANIFEST_FOLDER))
    num_samples = index["num_samples"]
    waveforms = _map(folder / CLIPS_FILE, len(manifest) * num_samples).reshape(-1, num_samples)
    lengths = [recording["num_samples"] for recording in index["noise"]]
    recordings = np.split(_map(folder / NOISE_FILE, sum(lengths)), np.cumsum(lengths)[:-1])
    names = [recording["path"].partition("/")[2] for recording in index["noise"]]
    return PreparedStore(manifest, waveforms, dict(zip(names, recordings)), index["sample_rate"], labels,
                         index["digest"])


def load_matching_store(folder: Path, sample_rate: int, num_samples: int, keywords: Sequence[str]) -> PreparedStore:
    """Load the prepared store; raise DataError "stale_store" if it was prepared for other settings."""
    store = load_store(folder)
    found = (store.sample_rate, store.waveforms.shape[1], store.labels.names)
    expected = (sample_rate, num_samples, LabelSet.from_keywords(keywords).names)
    if found != expected:
        raise DataError(f"{folder}: prepared for {found}; the configuration asks for {expected}; run `kws prepare` "
                        "again", "stale_store")
    return store


def write_samples(file: BinaryIO, samples: np.ndarray) -> int:
    """Append [T] int16 to CLIPS_FILE or NOISE_FILE, and return T."""
    file.write(np.ascontiguousarray(samples, dtype=SAMPLE).data)
    return len(samples)


def write_index(folder: Path, manifest: pd.DataFrame, noise: pd.DataFrame, labels: LabelSet, sample_rate: int,
                num_samples: int) -> str:
    """Write the manifest and store.json.

    Args:
        folder: of the store.
        manifest: one row per clip of CLIPS_FILE.
        noise: `path`, `sha256` and `num_samples` of the recordings in NOISE_FILE.
        labels: of the model.
        sample_rate: Hz, of the store.
        num_samples: T.
    Returns:
        the digest: equal for equal recordings and settings.
    Raises:
        DataError: "bad_manifest".
    """
    check_manifest(manifest, labels, "manifest")
    disable_progress_bars()  # of `datasets`, for this process: there is one shard
    Dataset.from_pandas(manifest, preserve_index=False).save_to_disk(folder / MANIFEST_FOLDER)
    recordings = noise[["path", "sha256", "num_samples"]].to_dict("records")
    index: dict[str, Any] = {"format": _FORMAT, "sample_rate": sample_rate, "num_samples": num_samples,
                             "labels": list(labels), "noise": recordings}
    index["digest"] = _digest(index, manifest)
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return str(index["digest"])


def _digest(index: Mapping[str, Any], manifest: pd.DataFrame) -> str:
    settings = {key: value for key, value in index.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for start in range(0, max(1, len(manifest)), _ROWS):  # as one text it would outweigh the manifest itself
        rows = manifest[start:start + _ROWS]
        digest.update(rows.to_csv(index=False, header=start == 0, lineterminator="\n").encode())
    return digest.hexdigest()


def _map(path: Path, num_samples: int) -> np.ndarray:
    """Map [num_samples] int16, read-only."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise _bad_store(path.parent, f"{path.name} cannot be read: {error.strerror}") from None
    expected = num_samples * SAMPLE.itemsize
    if found != expected:
        raise _bad_store(path.parent, f"{path.name}: {found:,} bytes; expected {expected:,}")
    return np.memmap(path, dtype=SAMPLE, mode="r") if num_samples else np.empty(0, dtype=SAMPLE)


def _read_manifest(folder: Path) -> pd.DataFrame:
    try:
        return load_from_disk(str(folder)).to_pandas()[list(MANIFEST_COLUMNS)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _bad_store(folder.parent, f"its manifest cannot be read ({type(error).__name__})") from None


def _read_index(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no prepared store there; run `kws prepare` with the same configuration",
                        "no_store")
    try:
        index = json.loads((folder / INDEX_FILE).read_bytes())
    except OSError as error:
        raise _bad_store(folder, f"store.json cannot be read: {error.strerror}") from None
    except ValueError:
        raise _bad_store(folder, "store.json is not JSON") from None
    found = index.get("format") if isinstance(index, dict) else None
    if found != _FORMAT:
        raise _bad_store(folder, f"format {found}; this program reads format {_FORMAT}")
    return dict(index)


def _bad_store(folder: Path, reason: str) -> DataError:
    return DataError(f"{folder}: not a usable prepared store: {reason}; run `kws prepare` with the same "
                     "configuration again", "bad_store")
