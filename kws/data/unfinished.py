"""The clips of a store while they are written, in NAME.part beside it: what was killed goes on from there.

clips.s16             the clips so far
NUMBER-KEY.parquet    what was found in one chunk of the listing, once all its clips are in clips.s16; the key stands
                      for the names, splits, sizes and times of its files, and for the settings
"""
from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import BinaryIO, Iterator, Optional, Sequence

import pandas as pd
from tqdm import tqdm

import kws
from kws.audio.decode import Limits
from kws.data.inspection import Inspection, inspect_files
from kws.data.split import TRAINING
from kws.data.store import CLIPS_FILE, SAMPLE, write_samples
from kws.errors import DataError
from kws.files.atomic import atomic_file, check_replaceable
from kws.files.locks import exclusive

_TABLE = re.compile(r"\d{6}-[0-9a-f]{32}\.parquet")
_CHUNK = 4096  # clips: 131 MB of one-second clips, seconds of work that a kill loses

logger = logging.getLogger(__name__)


@contextmanager
def unfinished(destination: Path) -> Iterator[Path]:
    """Yield the folder for the clips of a store, as the only process, and remove it at the end.

    An interruption (Ctrl-C, a full disk, a worker that died) leaves it, if chunks are finished in it; recordings that
    are rejected do not.

    Raises:
        DataError: "in_use" if another process prepares this store.
        FileExistsError: if a folder of this name holds something else.
    """
    folder = destination.with_name(f"{destination.name}.part")
    if not _holds_tables_alone(folder):
        check_replaceable(folder, CLIPS_FILE)
    with exclusive(destination, "a preparation"):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except BaseException as error:
            is_rejected = isinstance(error, DataError) and error.code == "rejected_data"
            if is_rejected or not any(folder.glob("*.parquet")):
                shutil.rmtree(folder)
            else:
                logger.warning("warning: %s: keeps the finished clips; the same command goes on from there", folder)
            raise
        shutil.rmtree(folder)


def _holds_tables_alone(folder: Path) -> bool:
    """Tell whether the clips have moved on to a store that was then not completed: all of them are to be done again."""
    return folder.is_dir() and all(_TABLE.fullmatch(path.name) for path in folder.iterdir())


def write_clips(folder: Path, clips: pd.DataFrame, root: Path, sample_rate: int, num_samples: int, limits: Limits,
                workers: Optional[int], chunk: int = _CHUNK) -> pd.DataFrame:
    """Write each clip as it is inspected; a content that an earlier split holds is left out.

    Args:
        folder: from `unfinished`; what is finished in it stays.
        clips: `path` and `split` of the files, those of an earlier split first, training last.
        root, sample_rate, num_samples, limits, workers: as for `inspect_files`.
        chunk: clips between two states that a later call goes on from.
    Returns:
        `clips` with what was found, and `kept`.
    """
    starts = range(0, len(clips), chunk)
    settings = repr((kws.__version__, sample_rate, num_samples, limits, chunk))
    tables = [folder / f"{number:06d}-{_key(clips[start:start + chunk], root, settings)}.parquet"
              for number, start in enumerate(starts)]
    with open(folder / CLIPS_FILE, "ab") as file:
        found = _finished(tables, file.tell() // (num_samples * SAMPLE.itemsize))
        for stale in {*folder.glob("*.parquet")} - {*tables[:len(found)]}:
            stale.unlink()
        file.truncate(sum(int(table["kept"].sum()) for table in found) * num_samples * SAMPLE.itemsize)
        done = len(found) * chunk
        if done:
            logger.info("%s: goes on after %s of %s clips", folder, f"{min(done, len(clips)):,}", f"{len(clips):,}")
        inspections = inspect_files(clips["path"][done:].tolist(), root, sample_rate, num_samples, limits, workers)
        progress = iter(tqdm(inspections, "recordings", total=len(clips), initial=done, unit="clip", disable=None))
        holders = _holders(found, clips["split"])
        for path, start in zip(tables[len(found):], starts[len(found):], strict=True):
            found.append(_write_chunk(file, progress, clips["split"][start:start + chunk], holders))
            file.flush()
            os.fsync(file.fileno())
            with atomic_file(path) as temporary:
                found[-1].to_parquet(temporary)
    return pd.concat([clips, pd.concat(found, ignore_index=True).drop(columns="path")], axis=1)


def table_of(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """One row per inspection, without samples."""
    names = [column.name for column in fields(Inspection) if column.name != "samples"]
    return pd.DataFrame({name: [getattr(inspection, name) for inspection in inspections] for name in names})


def _key(clips: pd.DataFrame, root: Path, settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for path, split in zip(clips["path"], clips["split"], strict=True):
        try:
            file = os.stat(os.path.join(root, path))
            digest.update(f"{path}\n{split}\n{file.st_size}\n{file.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}\n{split}\n".encode())
    return digest.hexdigest()[:32]


def _finished(tables: Sequence[Path], num_clips: int) -> list[pd.DataFrame]:
    """Read the tables of the chunks at the beginning that are finished, as far as there are clips for them."""
    found: list[pd.DataFrame] = []
    for path in tables:
        if not path.is_file():
            break
        table = pd.read_parquet(path)
        num_clips -= int(table["kept"].sum())
        if num_clips < 0:
            break
        found.append(table)
    return found


def _holders(found: Sequence[pd.DataFrame], splits: pd.Series) -> dict[bytes, str]:
    """Return the split of every content so far that a later split may hold as well."""
    holders: dict[bytes, str] = {}
    rows = (row for table in found for row in table[["sha256", "code"]].itertuples(index=False, name=None))
    for (checksum, code), split in zip(rows, splits, strict=False):
        if not code and split != TRAINING:
            holders.setdefault(bytes.fromhex(str(checksum)), split)
    return holders


def _write_chunk(file: BinaryIO, inspections: Iterator[Inspection], splits: pd.Series,
                 holders: dict[bytes, str]) -> pd.DataFrame:
    found, kept = [], []
    for split, clip in zip(splits, inspections, strict=False):  # in this order no inspection of the next is lost
        is_kept = not clip.code and holders.get(bytes.fromhex(clip.sha256), split) == split
        if is_kept:
            assert clip.samples is not None
            write_samples(file, clip.samples)
            if split != TRAINING:  # which is last
                holders[bytes.fromhex(clip.sha256)] = split
        found.append(replace(clip, samples=None))
        kept.append(is_kept)
    return table_of(found).assign(kept=kept)
