"""Words in running sound: samples in, in pieces of any size, detections out."""
from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence

import numpy as np

from kws.audio.blocks import recording_blocks
from kws.audio.decode import DEFAULT_LIMITS, Limits, Source
from kws.inference.decision import Detection
from kws.inference.detector import Detector, DetectorSettings, settings_from
from kws.errors import ModelError, first_line
from kws.model.folder import BLOCK_ROWS
from kws.model.labels import LabelSet
from kws.inference.runtime import open_session

# Rows of logits are computed in blocks, as soon as there is one; several in a call, which costs a fifth of it,
# where a long chunk has them or several listeners have one. On one thread each row comes out the same among few and
# among many, so that the same sound gives the same detections in whatever pieces it comes, and whoever else is heard.
MOST_BLOCKS = 40  # a call: 4 s of sound, a few milliseconds


class StreamModel:
    """An exported network that hears running sound step by step; safe to share between listeners.

    Args:
        path: of the ONNX file; its rule, labels and rate are in its metadata.
        threads: that one call may use; 0: as many as the machine has cores.

    Attributes:
        initial_state: [1, S] before the first sample: what silence leaves.
        lead_samples: zeros that belong before a sound, so that its frames lie where those of a clip do.
        delay_rows: rows at the start that answer for no frame of the sound.
        late_samples: after one, until what is known of it is known.
        digest: of all that decides the logits.

    Raises:
        ModelError: if the file is missing, damaged, or was not written by `kws export`.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = open_session(path, threads)
        self.digest = f"stream {sha256(path.read_bytes()).hexdigest()[:16]}"
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            self.labels = LabelSet(tuple(json.loads(metadata["labels"])))
            self.sample_rate, self.state_size = int(metadata["sample_rate"]), int(metadata["state_size"])
            self.step_samples, self.lead_samples = int(metadata["step_samples"]), int(metadata["lead_samples"])
            self.delay_rows = int(metadata["delay_rows"])
            self.settings = settings_from(json.loads(metadata["detector"]))
            self.hears_many = not isinstance(self._session.get_inputs()[0].shape[0], int)  # older files: one sound
        except (KeyError, ValueError) as error:
            raise ModelError(f"{path}: its metadata is not that of a model for running sound ({error}); expected a "
                             "file that `kws export` wrote") from None
        self.late_samples = (self.delay_rows + 1) * self.step_samples - self.lead_samples
        try:
            self.initial_state = np.zeros((1, self.state_size), dtype=np.float32)
            self._hear_silence()
        except Exception as error:  # numpy's and onnxruntime's own
            raise ModelError(f"{path}: does not run on a state of {self.state_size:,} numbers "
                             f"({first_line(error)}); export it again") from None

    def _hear_silence(self) -> None:
        """Hear the whole blocks of zeros that belong before every sound, once for all of them."""
        rows = self.lead_samples // (BLOCK_ROWS * self.step_samples) * BLOCK_ROWS
        if rows:
            silence = np.zeros((1, rows * self.step_samples), dtype=np.float32)
            self.initial_state = self.step(silence, self.initial_state)[1]
            self.lead_samples, self.delay_rows = self.lead_samples - silence.size, self.delay_rows - rows

    def step(self, samples: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hear the next samples of B sounds: [B, R * step_samples] float32, [B, S] -> logits [B, R, C], next state."""
        logits, state = self._session.run(["logits", "next_state"], {"samples": samples, "state": state})
        return logits, state


def detector_of(model: StreamModel, settings: DetectorSettings) -> Detector:
    """Make the detector that reads a model's rows of logits, the first ones that answer for nothing left out."""
    rate = model.sample_rate
    return Detector(model.labels, model.step_samples / rate, model.late_samples / rate, settings)


class Listener:
    """One source of sound, heard from its start.

        listener = Listener(StreamModel(Path("models/kws/stream.onnx")))
        for chunk in microphone:
            for detection in listener.feed(chunk):
                print(detection.word)

    Args:
        model: may be shared.
        settings: the rule; None: the one that came with the model.
    """

    def __init__(self, model: StreamModel, settings: Optional[DetectorSettings] = None) -> None:
        self.sample_rate = model.sample_rate
        self._model, self._detector = model, detector_of(model, settings or model.settings)
        self.reset()

    def reset(self, at_seconds: float = 0.0) -> None:
        """Forget what was heard; the next sample is the first one, and comes at this time."""
        self._detector.reset()
        self._starts_at = at_seconds
        self._state = self._model.initial_state
        self._pending = np.zeros(self._model.lead_samples, dtype=np.float32)
        self._skip = self._model.delay_rows

    def feed(self, samples: np.ndarray) -> list[Detection]:
        """Hear the next samples; return what they complete.

        Args:
            samples: [T] at the model's rate, float in -1..1 or int16; any T. NaN and infinite ones count as silence.
        Raises:
            ValueError: for other shapes and types.
        """
        self.add(samples)
        detections = []
        while blocks := min(self.blocks, MOST_BLOCKS):
            detections += step_together(self._model, [self], blocks)[0]
        return detections

    def add(self, samples: np.ndarray) -> None:
        """Take samples as `feed` does, for `step_together` to hear."""
        self._pending = np.concatenate([self._pending, _usable(samples)])

    @property
    def blocks(self) -> int:
        """How many blocks of rows the samples that were added make, and nobody heard yet."""
        return len(self._pending) // (BLOCK_ROWS * self._model.step_samples)

    def best(self) -> tuple[str, float]:
        """Return the keyword that the last steps came closest to, and its confidence then."""
        return self._detector.best()

    def finish(self) -> list[Detection]:
        """End the sound: let silence follow until all of it was heard; return what that completes."""
        return self.feed(self.closing_silence())

    def closing_silence(self) -> np.ndarray:
        """Make the samples that have to follow a sound until all of it was heard."""
        return np.zeros(self._model.late_samples + BLOCK_ROWS * self._model.step_samples, dtype=np.float32)

    def _take(self, blocks: int) -> np.ndarray:
        """Take the samples of so many blocks out of what was added."""
        size = blocks * BLOCK_ROWS * self._model.step_samples
        taken, self._pending = self._pending[:size], self._pending[size:]
        if not self.blocks:
            self._pending = self._pending.copy()  # not a view that would keep all of a long chunk
        return taken

    def _decide(self, logits: np.ndarray) -> list[Detection]:
        """Read the next rows of logits, [R, C]."""
        skipped = min(self._skip, len(logits))
        self._skip -= skipped
        detections = self._detector.feed(logits[skipped:])
        return [_later(detection, self._starts_at) for detection in detections] if self._starts_at else detections


def step_together(model: StreamModel, listeners: Sequence[Listener], blocks: int) -> list[list[Detection]]:
    """Hear the next blocks of each of some listeners, of one model, in one call.

    Args:
        model: theirs.
        listeners: B, each with so many blocks at least.
        blocks: of each.
    Returns:
        what that completes, for each listener.
    """
    samples = np.stack([listener._take(blocks) for listener in listeners])
    logits, states = model.step(samples, np.concatenate([listener._state for listener in listeners]))
    for row, listener in enumerate(listeners):
        listener._state = states[row:row + 1].copy()  # not a view that would keep those of all
    return [listener._decide(rows) for listener, rows in zip(listeners, logits)]


def listen(model: StreamModel, chunks: Iterable[np.ndarray],
           settings: Optional[DetectorSettings] = None) -> Iterator[Detection]:
    """Yield the detections of a sound that comes in chunks, each as soon as it is known; see `Listener`."""
    listener = Listener(model, settings)
    for chunk in chunks:
        yield from listener.feed(chunk)
    yield from listener.finish()


def listen_to(model: StreamModel, source: Source, limits: Limits = DEFAULT_LIMITS,
              settings: Optional[DetectorSettings] = None) -> Iterator[Detection]:
    """Yield the detections of a recording of any length, a path or encoded bytes; see `recording_blocks`."""
    return listen(model, recording_blocks(source, model.sample_rate, limits), settings)


def _later(detection: Detection, seconds: float) -> Detection:
    return replace(detection, start_seconds=detection.start_seconds + seconds,
                   end_seconds=detection.end_seconds + seconds, time_seconds=detection.time_seconds + seconds)


def _usable(samples: np.ndarray) -> np.ndarray:
    """[T] of any kind -> float32 in -1..1."""
    if samples.ndim != 1 or (samples.dtype != np.int16 and samples.dtype.kind != "f"):
        raise ValueError(f"found samples of shape {list(samples.shape)} and type {samples.dtype}; expected [T], mono, "
                         "float in -1..1 or int16")
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / 32768
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    return samples.clip(-1.0, 1.0)
