#!/usr/bin/env python
"""Draw a recording with what the model answers along it: the picture of the README.

usage: python scripts/picture.py [docs/samples/five-words.flac] [--model MODEL] [--output docs/images/five-words.png]

The model is asked about a window every 50 ms. Every stretch in which one keyword is certain enough is marked once.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from kws import KeywordSpotter, Prediction
from kws.commands.cli import EXIT_OK, guard
from kws.errors import DataError
from kws.files.atomic import atomic_file

_STEP_SECONDS = 0.05
_WINDOW_SECONDS = 1.0


class Mark(NamedTuple):
    """A keyword, where it is in the recording, in seconds, and its greatest probability."""

    word: str
    seconds: float
    confidence: float


def answers(spotter: KeywordSpotter, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ask about a window every `_STEP_SECONDS`.

    Args:
        waveform: [T] float32 in -1..1, at the rate of the spotter.
    Returns:
        [W] seconds, the middle of each window; [W, K] probabilities of the keywords.
    """
    size, step = int(_WINDOW_SECONDS * spotter.sample_rate), int(_STEP_SECONDS * spotter.sample_rate)
    padded = np.pad(waveform, size // 2)
    starts = np.arange(0, len(waveform), step)
    predictions = spotter.classify([padded[start:start + size] for start in starts])
    return starts / spotter.sample_rate, np.array(
        [[answer.confidences[word] for word in spotter.labels.keywords] for answer in predictions
         if isinstance(answer, Prediction)])


def marks(seconds: np.ndarray, confidences: np.ndarray, words: Sequence[str], threshold: float) -> list[Mark]:
    """Return a mark for every stretch in which one keyword reaches the threshold, in order of time.

    A keyword is about equally probable wherever the window holds all of it: the mark is the mean of those places.
    """
    best = np.where(confidences.max(axis=1) >= threshold, confidences.argmax(axis=1), -1)
    bounds = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
    found = []
    for begin, end in zip(bounds[:-1], bounds[1:]):
        if best[begin] >= 0:
            weights = confidences[begin:end, best[begin]]
            middle = float(np.average(seconds[begin:end], weights=weights))
            found.append(Mark(words[best[begin]], middle, float(weights.max())))
    return found


def draw(waveform: np.ndarray, sample_rate: int, seconds: np.ndarray, confidences: np.ndarray, words: Sequence[str],
         found: Sequence[Mark], path: Path) -> None:
    """Write the spectrogram with the marks, and the probabilities of the marked keywords below it, as a PNG."""
    figure = Figure(figsize=(9, 4.2), dpi=100)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    quiet = 1e-5 * np.random.default_rng(0).standard_normal(len(waveform))  # digital silence has no logarithm
    top.specgram(waveform + quiet, NFFT=512, Fs=sample_rate, noverlap=352, cmap="magma", vmin=-130, vmax=-40)
    top.set(ylabel="Hz", ylim=(0, sample_rate / 2))
    for mark in found:
        top.axvspan(mark.seconds - 0.3, mark.seconds + 0.3, fill=False, edgecolor="white", linewidth=1.5)
        top.text(mark.seconds, 0.93 * sample_rate / 2, f"{mark.word} {mark.confidence:.2f}", color="white",
                 ha="center", va="top", weight="bold")
        bottom.plot(seconds, confidences[:, words.index(mark.word)], label=mark.word)
    bottom.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.05), xlim=(0, len(waveform) / sample_rate))
    figure.tight_layout()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # A palette: a third of the bytes.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture = picture.quantize(128, method=Image.Quantize.MAXCOVERAGE)
    with atomic_file(path) as part:
        picture.save(part, format="png", optimize=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Draw, and print the marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, nargs="?", default=Path("docs/samples/five-words.flac"))
    parser.add_argument("--model", type=Path, help="model folder (default: the shipped model)")
    parser.add_argument("--threshold", type=float, default=0.6, help="least probability of a mark (default: 0.6)")
    parser.add_argument("--output", type=Path, default=Path("docs/images/five-words.png"))
    args = parser.parse_args(argv)
    spotter = KeywordSpotter(args.model)
    waveform, sample_rate = soundfile.read(args.recording, dtype="float32")
    if sample_rate != spotter.sample_rate or waveform.ndim != 1:
        raise DataError(f"{args.recording}: {sample_rate:,} Hz, {waveform.ndim} dimension(s); expected mono at "
                        f"{spotter.sample_rate:,} Hz", "unsupported_audio")
    seconds, confidences = answers(spotter, waveform)
    words = spotter.labels.keywords
    found = marks(seconds, confidences, words, args.threshold)
    draw(waveform, spotter.sample_rate, seconds, confidences, words, found, args.output)
    for mark in found:
        print(f"{mark.seconds:5.2f} s  {mark.word}  {mark.confidence:.3f}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
