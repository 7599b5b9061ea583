#!/usr/bin/env python
"""Measure what running sound costs on one thread: time of the processor by time of the sound, in one run.

usage: python scripts/benchmark_streaming.py [--model models/kws] [--seconds 60]

Compared with the model of clips over a window every 50 ms. The sound is noise: what is heard does not matter for speed.
"""
from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Callable, Optional, Sequence

import numpy as np

from kws.commands.cli import EXIT_OK, TRAINED, add_verbosity, chosen_model, guard, start_logging
from kws.inference.listening import Listener, StreamModel
from kws.inference.runtime import OnnxRuntime
from kws.inference.spotter import BATCH_SIZE
from kws.model.folder import ONNX_FILE, STREAM_FILE

_REPEATS = 3
_HOP_SECONDS, _PIECE_SECONDS = 0.05, 0.1  # from window to window; of a microphone


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path,
                        help=f"exported folder (default: {TRAINED}, or the shipped one without it)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of sound (default: 60)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def by_windows(runtime: OnnxRuntime, sound: np.ndarray, batch_size: int) -> None:
    """Hear [T] in windows that begin every 50 ms, so many at a time."""
    hop = round(_HOP_SECONDS * runtime.sample_rate)
    windows = np.lib.stride_tricks.sliding_window_view(sound, runtime.num_samples)[::hop]
    for start in range(0, len(windows), batch_size):
        runtime.logits(np.ascontiguousarray(windows[start:start + batch_size]))


def step_by_step(model: StreamModel, sound: np.ndarray, size: int) -> None:
    """Hear [T] as running sound, so many samples at a time."""
    listener = Listener(model)
    for start in range(0, len(sound), size):
        listener.feed(sound[start:start + size])
    listener.finish()


def least_seconds(works: Sequence[Callable[[], None]]) -> list[float]:
    """Time some works in turn, several times: the least of each, which other programs disturbed least."""
    times = []
    for _ in range(_REPEATS):
        row = []
        for work in works:
            began = time.thread_time()
            work()
            row.append(time.thread_time() - began)
        times.append(row)
    return np.min(times, axis=0).tolist()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, and print a table."""
    args = parse_args(argv)
    start_logging(args.verbose)
    folder = chosen_model(args.model)
    model, runtime = StreamModel(folder / STREAM_FILE), OnnxRuntime(folder / ONNX_FILE, threads=1)
    size = round(args.seconds * model.sample_rate)
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, size).astype(np.float32)
    works = {"stream.onnx, the whole sound at once": partial(step_by_step, model, sound, len(sound)),
             "stream.onnx, 0.1 s at a time": partial(step_by_step, model, sound,
                                                     round(_PIECE_SECONDS * model.sample_rate)),
             "model.onnx, a window every 50 ms": partial(by_windows, runtime, sound, 1),
             f"model.onnx, likewise, {BATCH_SIZE} together": partial(by_windows, runtime, sound, BATCH_SIZE)}
    factors = dict(zip(works, np.divide(least_seconds(list(works.values())), len(sound) / model.sample_rate)))
    print(f"{'':<40}{'real-time factor':>18}{'ratio':>8}")
    for name, factor in factors.items():
        print(f"{name:<40}{factor:>18.5f}{factor / next(iter(factors.values())):>8.1f}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
