#!/usr/bin/env python
"""Prepare and train with many clips: memory and speed against a tenth of them.

  python scripts/benchmark_store.py FOLDER --clips 1000000

Fills FOLDER with one-second FLAC files (4 KB each, all different) and a store of 32 KB a clip; both stay there. Memory
is anonymous memory, which a full machine cannot take back; the mapped store is not part of it. Speeds are by processor
time, which other programs hardly change.
"""
from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

import numpy as np
import soundfile

from kws.audio.folders import NOISE_FOLDER
from kws.config.sections import load_config
from kws.data.dataset import Batches, ClipDataset
from kws.data.split import TRAINING
from kws.data.store import load_store

_ROOT = Path(__file__).resolve().parents[1]
_WORDS = ["yes", "no", *(f"word{number}" for number in range(98))]  # rare keywords make short epochs
_SPEAKERS, _SAMPLES = 500, 16_000
_SETTINGS = ['data.keywords=["yes","no"]', "data.unknown_ratio=2", "architecture=configs/arch/nano.yaml",
             "training.epochs=1", "training.warmup_epochs=0.5", "training.min_epoch_steps=0", "tracking.enabled=false"]


class Run(NamedTuple):
    """What a command took.

    Args:
        anonymous: bytes, the largest sum over its processes.
        seconds: from start to end.
        clips: of the store as they were written: (seconds of processor time, clips).
    """

    anonymous: int
    seconds: float
    clips: list[tuple[float, int]]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Generate, prepare and train with a tenth and with all; print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=200_000)
    args = parser.parse_args(argv)
    for count in (args.clips // 10, args.clips):
        folder = (args.folder / str(count)).resolve()
        fill(folder / "data", count)
        settings = [*_SETTINGS, f"data.root={folder}/data", f"data.prepared={folder}/store",
                    f"training.model={folder}/model", f"training.checkpoints={folder}/run"]
        prepared = run(["prepare", *options(settings), "--reports", str(folder / "reports")], folder / "store.part")
        first, last = (rate(prepared.clips, count, share) for share in ((0.05, 0.25), (0.75, 0.95)))
        print(f"{count:,} clips prepared in {prepared.seconds:.0f} s: {prepared.anonymous >> 20:,} MB; "
              f"{first:,.0f} clips/s in the first fifth, {last:,.0f} in the last: {last / first:.2f}", flush=True)
        first, last = read_all(settings)
        print(f"{count:,} clips read in random order: {first:,.0f} clips/s in the first fifth, {last:,.0f} in the "
              f"last: {last / first:.2f}", flush=True)
        trained = run(["train", *options(settings), "-v"])
        print(f"{count:,} clips, trained in {trained.seconds:.0f} s: {trained.anonymous >> 20:,} MB", flush=True)
    return 0


def options(settings: Sequence[str]) -> list[str]:
    """The configuration file and its overrides as options of a command."""
    return [str(_ROOT / "configs/kws.yaml"), *(part for setting in settings for part in ("--set", setting))]


def fill(root: Path, count: int) -> None:
    """Write so many files, where they are not there yet."""
    if root.is_dir():
        return
    for folder in (*_WORDS, NOISE_FOLDER):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    hiss = rng.normal(0, 0.05, 30 * _SAMPLES)
    soundfile.write(root / NOISE_FOLDER / "hiss.wav", hiss, _SAMPLES, subtype="PCM_16")
    tones = [tone(rng) for _ in _WORDS]
    for number in range(count):
        take, word = divmod(number, len(_WORDS))
        name = f"s{take % _SPEAKERS}_nohash_{take // _SPEAKERS}.flac"
        (root / _WORDS[word] / name).write_bytes(unlike_others(tones[word], number))


def tone(rng: np.random.Generator) -> bytes:
    """Make a tone that decays, of its own pitch and phase: one second, 4 KB of FLAC."""
    phase = rng.uniform(0, 6.28) + np.arange(_SAMPLES) * rng.uniform(0.1, 1.0)
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.exp(-np.arange(_SAMPLES) / 800) * np.sin(phase), _SAMPLES, "PCM_16", format="FLAC")
    return file.getvalue()


def unlike_others(flac: bytes, number: int) -> bytes:
    """Put a block of metadata with a number behind STREAMINFO: other bytes, the same sound (RFC 9639, section 8)."""
    end = 4 + 4 + 34
    return flac[:end] + b"\x02" + (12).to_bytes(3, "big") + b"kws " + number.to_bytes(8, "big") + flac[end:]


def run(command: Sequence[str], growing: Optional[Path] = None) -> Run:
    """Run a command of kws and watch its memory, and the clips in a folder that it fills."""
    started, most = time.monotonic(), 0
    clips: list[tuple[float, int]] = []
    process = subprocess.Popen([sys.executable, "-m", "kws", *command], cwd=_ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        most = max(most, sum(anonymous(pid) for pid in family(process.pid)))
        if growing is not None and (growing / "clips.s16").is_file():
            written = (growing / "clips.s16").stat().st_size // (2 * _SAMPLES)
            clips.append((sum(processor_time(pid) for pid in family(process.pid)), written))
        time.sleep(0.2)
    assert process.stdout is not None
    if process.returncode:
        raise SystemExit(process.stdout.read())
    return Run(most, time.monotonic() - started, clips)


def family(pid: int) -> Iterator[int]:
    """A process and its children, theirs included."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                yield from family(int(child))
        except OSError:  # it has ended
            pass


def anonymous(pid: int) -> int:
    """Anonymous memory of a process in bytes; of pages that several processes share, its part."""
    try:
        found = re.search(r"Pss_Anon:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:  # it has ended
        return 0
    return int(found[1]) * 1024 if found else 0


def processor_time(pid: int) -> float:
    """Seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rate(clips: Sequence[tuple[float, int]], count: int, share: tuple[float, float]) -> float:
    """Clips per second of processor time between two shares of all; NaN if that went by unseen."""
    inside = [(seconds, written) for seconds, written in clips if share[0] <= written / count <= share[1]]
    (begin, first), (end, last) = inside[0], inside[-1]
    return (last - first) / (end - begin) if end > begin else float("nan")


def read_all(settings: Sequence[str]) -> tuple[float, float]:
    """Read every clip once, batch by batch, in random order; clips per second of the first and last fifth."""
    config = load_config(_ROOT / "configs/kws.yaml", settings)
    clips = ClipDataset(load_store(config.data.prepared), TRAINING, None, 1.0, (-20.0, 0.0), 0)
    batches = list(Batches(len(clips), 64, 0))
    times = [time.process_time()]
    for batch in batches:
        clips.__getitems__(batch)
        times.append(time.process_time())
    fifth = len(batches) // 5
    return fifth * 64 / (times[fifth] - times[0]), fifth * 64 / (times[-1] - times[-1 - fifth])


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
