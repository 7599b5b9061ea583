"""The page's detector and listener against Python's: both read the same golden vectors.

`python tests/web/test_golden_vectors.py` writes them anew, after a change of the rule that is meant.
"""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from kws.inference.detector import Detector, DetectorSettings
from kws.inference.listening import Listener
from kws.model.labels import LabelSet

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
LABELS = LabelSet.from_keywords(["no", "yes", "öl"])
FRAME, FIRST = 0.02, 0.605
NO, YES, OIL = 0, 1, 2


def said(frames: int, *words: tuple[int, int, int, float], seed: int = 0) -> np.ndarray:
    """Logits [frames, 5], a bit of noise: `_unknown_` but for (word, first frame, count, surety)."""
    logits = np.random.default_rng(seed).normal(0, 0.3, (frames, len(LABELS)))
    logits[:, LABELS.index("_unknown_")] += 4
    for word, first, count, surety in words:
        logits[first:first + count, word] += surety
    return logits.round(2)


def tied(frames: int) -> np.ndarray:
    """Logits by which two words are equally sure, to the last bit, all the time."""
    logits = np.zeros((frames, len(LABELS)))
    logits[20:60, [NO, YES]] = 5.0
    return logits


CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "a word": (said(120, (YES, 40, 25, 8)), {}),
    "every word, each twice": (said(400, *((word, 20 + 60 * n + 180 * twice, 25, 9) for n, word in
                                           enumerate((NO, YES, OIL)) for twice in (0, 1))), {}),
    "a word that does not end": (said(200, (NO, 20, 170, 9)), {}),
    "again too soon": (said(160, (NO, 20, 12, 9), (NO, 50, 12, 9)), {"smoothing_seconds": 0.1}),
    "again soon enough": (said(160, (NO, 20, 12, 9), (NO, 90, 12, 9)), {"smoothing_seconds": 0.1}),
    "another word too soon, and held": (said(160, (NO, 20, 12, 9), (YES, 28, 40, 9)), {"smoothing_seconds": 0.1}),
    "a word in the pause of another": (said(100, (NO, 20, 6, 9), (YES, 28, 4, 9)),
                                       {"smoothing_seconds": 0.02, "other_refractory_seconds": 0.5}),
    "no pauses": (said(160, (NO, 20, 6, 9), (NO, 30, 6, 9), (YES, 36, 6, 9)),
                  {"smoothing_seconds": 0.02, "refractory_seconds": 0.0, "other_refractory_seconds": 0.0}),
    "thresholds of words": (said(160, (NO, 20, 30, 5), (YES, 90, 30, 5)),
                            {"threshold": 3.0, "thresholds": {"yes": -0.5}}),
    "near the threshold": (said(300, (YES, 20, 250, 5.2), seed=1), {"threshold": 1.0, "smoothing_seconds": 0.1}),
    "two words at once": (tied(100), {"smoothing_seconds": 0.1, "threshold": -0.2}),
    "two words at once, one nearer to its threshold": (tied(100), {"smoothing_seconds": 0.1, "threshold": -0.2,
                                                                   "thresholds": {"yes": -0.4}}),
    "from the first row": (said(60, (NO, 0, 60, 9)), {"threshold": 0.0}),
    "half frames round to even": (said(160, (NO, 20, 6, 9), (NO, 33, 6, 9)),
                                  {"smoothing_seconds": 0.05, "refractory_seconds": 0.25,
                                   "other_refractory_seconds": 0.05}),
    "surer than numbers are fine": (said(80, (OIL, 20, 40, 900)), {"threshold": 20.0}),
    "nothing": (said(100), {}),
}


class Mean:
    """A network as StreamModel offers one: of every step the mean and the largest, and how many steps came before."""

    labels, sample_rate, step_samples, lead_samples, delay_rows, late_samples = LABELS, 16000, 320, 240, 30, 9680
    initial_state = np.zeros((1, 1))
    settings = DetectorSettings(threshold=0.5, smoothing_seconds=0.1, refractory_seconds=0.3)

    def step(self, samples: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[1, R * 320], [1, 1] -> [1, R, 5], [1, 1]."""
        steps = samples.reshape(-1, self.step_samples)
        count = state[0, 0] + np.arange(len(steps))
        logits = np.stack([40 * steps.mean(axis=1), 8 * steps.max(axis=1), -20 * steps.mean(axis=1), 4 + 0 * count,
                           count % 3], axis=1)
        return logits[None], np.array([[count[-1] + 1]])


def chunks() -> list[list[float]]:
    """Sound in pieces of awkward sizes, made of a few levels, in eighths so that sums are exact."""
    random = np.random.default_rng(3)
    sound = np.repeat(random.integers(-8, 9, 30) / 8, 4000)
    edges = np.cumsum([0, 1, 79, 240, 1600, 0, 1599, 3200, 20_000, 7])
    return [sound[first:end].tolist() for first, end in zip(edges, [*edges[1:], len(sound)])]


def runs(values: list[float]) -> list[list[float]]:
    """[value, how often] of what follows each other, to keep the file small."""
    edges = np.flatnonzero(np.diff(values, prepend=np.nan, append=np.nan))
    return [[values[first], int(end - first)] for first, end in zip(edges, edges[1:])]


def golden() -> dict[str, Any]:
    """All that the page has to answer likewise."""
    cases = []
    for name, (logits, rule) in CASES.items():
        detections = Detector(LABELS, FRAME, FIRST, DetectorSettings(**rule)).feed(logits)
        cases.append({"name": name, "rule": rule, "logits": logits.ravel().tolist(),
                      "detections": [record(found) for found in detections]})
    listener = Listener(Mean())  # type: ignore[arg-type]
    fed = [[record(found) for found in listener.feed(np.array(chunk, dtype=np.float32))] for chunk in chunks()]
    fed.append([record(found) for found in listener.finish()])
    listener.reset(12.5)
    again = [record(found) for found in listener.feed(np.concatenate(chunks()).astype(np.float32))]
    return {"labels": list(LABELS), "frame_seconds": FRAME, "first_seconds": FIRST, "cases": cases,
            "listener": {"rule": asdict(Mean.settings), "detections": fed, "from_12.5": again,
                         "chunks": [runs(chunk) if chunk else [] for chunk in chunks()]}}


def record(found: Any) -> dict[str, Any]:
    return {"word": found.word, "start_s": found.start_seconds, "end_s": found.end_seconds,
            "time_s": found.time_seconds, "confidence": found.confidence}


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(where, leaf) of everything in a document."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(item, f"{place}/{key}")
    else:
        yield place, value


def test_the_vectors_are_what_python_answers():
    kept, fresh = dict(flat(json.loads(GOLDEN.read_text(encoding="utf-8")))), dict(flat(golden()))
    assert kept.keys() == fresh.keys()
    for place, value in fresh.items():
        assert kept[place] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value), place


def test_the_vectors_hold_what_they_are_named_for():
    words = {case["name"]: [found["word"] for found in case["detections"]] for case in golden()["cases"]}
    assert words["every word, each twice"] == ["no", "yes", "öl", "no", "yes", "öl"]
    assert words["again too soon"] == ["no"] and words["again soon enough"] == ["no", "no"]
    assert words["another word too soon, and held"] == ["no", "yes"]
    assert words["a word in the pause of another"] == ["no"] and words["no pauses"] == ["no", "no", "yes"]
    assert words["thresholds of words"] == ["yes"] and words["two words at once"][0] == "no"
    assert words["two words at once, one nearer to its threshold"][0] == "yes" and words["nothing"] == []
    assert sum(map(len, golden()["listener"]["detections"])) > 3


def test_the_page_answers_likewise():
    """Everything of the page that needs no browser."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node, which runs the page's own tests; Debian's package nodejs is one")
    tests = sorted(map(str, HERE.glob("*.test.mjs")))
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHON": sys.executable})
    assert tests and done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), ensure_ascii=False) + "\n", encoding="utf-8")
