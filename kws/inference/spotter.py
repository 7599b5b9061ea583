"""From recordings to answers: the only place that joins decode, window, runtime and decide."""
from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence, Union

import numpy as np

from kws.audio.decode import DEFAULT_LIMITS, Limits, Source, check_scale, decode, hear, samples_of
from kws.errors import AudioError, ModelError, first_line
from kws.files.places import is_remote
from kws.inference.decision import Detection, Prediction, check_logits, decide, probabilities
from kws.inference.detector import DetectorSettings
from kws.inference.listening import StreamModel, listen
from kws.inference.runtime import Runtime, load_runtime
from kws.model.folder import SHIPPED, STREAM_FILE
from kws.model.labels import SILENCE, UNKNOWN, LabelSet
from kws.model.window import pad_or_crop, window_starts

# Windows of one call: enough to amortise it, few enough for the processor's caches (measured).
BATCH_SIZE = 16

Clip = Union[Source, np.ndarray]  # or what becomes one by `__array__`, as tensors do
Answer = Union[Prediction, AudioError]


class KeywordSpotter:
    """A loaded model that labels recordings.

        spotter = KeywordSpotter("models/kws")
        spotter("a.wav").label                  # one: a Prediction, or an AudioError is raised
        spotter(["a.wav", wav_bytes, array])    # several: a Prediction or an AudioError for each, in order

    A recording that is not longer than the model's window is centred in it. A longer one is searched for keywords by
    the detector of `stream`: `detections` of its answer are all of them, `label` and `start_seconds` those of the
    surest. Where there is none the label is `_silence_` if every window of the recording is, else `_unknown_`.

    A model without stream.onnx splits a longer recording into windows that overlap by half; the one in which some
    keyword is most probable gives the answer, and `start_seconds` says where it begins.

    Args:
        model: model folder, ONNX file of one, or a loaded runtime; None: the one that ships with the package.
        runtime: "onnx" or "torch"; None takes ONNX Runtime where the model has been exported.
        threads: that one call may use; 0: as many as the machine has cores.
        limits: what recordings are refused.

    Raises:
        ModelError: if there is no usable model.
    """

    def __init__(self, model: Optional[Union[str, os.PathLike[str], Runtime]] = None, *,
                 runtime: Optional[str] = None, threads: int = 0, limits: Limits = DEFAULT_LIMITS) -> None:
        model = SHIPPED if model is None else model
        path = Path(model) if isinstance(model, (str, os.PathLike)) else None
        self._runtime: Runtime = load_runtime(path, runtime, threads) if path is not None else model  # type: ignore
        # Both files at once: a folder that is exported anew later does not change half of what answers.
        self._stream_model = None if path is None else self._load_stream_model(path / STREAM_FILE)
        self._limits = limits

    @property
    def labels(self) -> LabelSet:
        """The labels it answers with."""
        return self._runtime.labels

    @property
    def sample_rate(self) -> int:
        """Hz, of arrays given to it."""
        return self._runtime.sample_rate

    @property
    def num_samples(self) -> int:
        """T of a window."""
        return self._runtime.num_samples

    @property
    def digest(self) -> str:
        """Of all that decides the answers: two spotters of one digest are the same."""
        parts = (self._runtime, self._stream_model)
        return ", ".join(part.digest for part in parts if part is not None)

    def _load_stream_model(self, path: Path) -> Optional[StreamModel]:
        """Load the model for running sound; None: the folder has none."""
        if not path.is_file():
            return None
        model = StreamModel(path)
        if (model.labels, model.sample_rate) != (self.labels, self.sample_rate):
            raise ModelError(f"{path}: knows {' '.join(model.labels)} at {model.sample_rate:,} Hz, the model of clips "
                             f"beside it {' '.join(self.labels)} at {self.sample_rate:,} Hz; export the folder again",
                             "other_model")
        return model

    def __call__(self, clips: Union[Clip, Sequence[Clip]],
                 threshold: float = 0.0) -> Union[Prediction, list[Answer]]:
        """Label one recording, or several; see `classify`.

        Raises:
            AudioError: if a single recording cannot be used.
        """
        if isinstance(clips, (list, tuple)):
            return self.classify(clips, threshold)
        answer, = self.classify([clips], threshold)  # type: ignore[list-item]
        if isinstance(answer, AudioError):
            raise answer
        return answer

    def classify(self, clips: Sequence[Clip], threshold: float = 0.0,
                 names: Optional[Sequence[str]] = None) -> list[Answer]:
        """Label recordings; safe to call from several threads.

        Args:
            clips: paths, encoded bytes, or arrays or tensors [T] at `sample_rate`, float in -1..1 or int16.
            threshold: 0..1, the least confidence of a keyword; below it the answer is `_unknown_`.
            names: what to call the recordings in messages; paths by default.
        Returns:
            for every clip, in order, its prediction, or what is wrong with it.
        Raises:
            ModelError: if the model answers NaN.
            ValueError: if the threshold is outside 0..1.
        """
        answers: list[Optional[Answer]] = [None] * len(clips)
        best = _BestWindows(len(clips), self.labels)
        windows = self._windows(clips, names, threshold, answers, best)
        while batch := list(islice(windows, BATCH_SIZE)):
            owners, starts, waveforms = zip(*batch)
            best.add(np.array(owners), np.array(starts), self._runtime.logits(np.stack(waveforms)))
        heard = best.score >= 0.0
        for index, prediction in zip(np.flatnonzero(heard), decide(best.logits[heard], self.labels, threshold)):
            answers[index] = replace(prediction, start_seconds=int(best.start[index]) / self.sample_rate,
                                     seconds=int(best.length[index]) / self.sample_rate)
        return answers  # type: ignore[return-value]  # every clip was heard or is an error

    def stream(self, chunks: Iterable[np.ndarray], settings: Optional[DetectorSettings] = None) -> Iterator[Detection]:
        """Yield the keywords in running sound, each as soon as it is known.

        Args:
            chunks: [T] each, any T, at `sample_rate`, float in -1..1 or int16; they follow each other without a gap.
            settings: the rule; None: the one that came with the model.
        Raises:
            ModelError: "no_model" if the model was not trained for running sound.
            ValueError: if a chunk has another shape or type.
            AudioError: "bad_samples" for floats that are not in -1..1 but on the scale of integers.
        """
        if self._stream_model is None:
            raise ModelError(f"a model of clips only; running sound needs a model folder with {STREAM_FILE}: "
                             "`kws train-streams`, then `kws export`, make it", "no_model")
        return listen(self._stream_model, map(_chunk, chunks), settings)

    def window(self, clip: Clip, start_seconds: float = 0.0) -> np.ndarray:
        """Return what was heard for an answer: the window [T] of a clip that begins at `start_seconds`.

        Raises:
            AudioError: if the clip cannot be used.
        """
        waveform, size = self._waveform(clip, ""), self._runtime.num_samples
        start = round(start_seconds * self.sample_rate)
        return pad_or_crop(waveform[start:start + size], size)

    def _windows(self, clips: Sequence[Clip], names: Optional[Sequence[str]], threshold: float,
                 answers: list[Optional[Answer]], best: _BestWindows) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (index of the clip, first sample, [T]) of every window; put errors and lengths where they belong.

        Recordings that are searched for keywords are answered at once.
        """
        size = self._runtime.num_samples
        for index, clip in enumerate(clips):
            try:
                waveform = self._waveform(clip, names[index] if names else "")
            except AudioError as error:
                answers[index] = error
                continue
            if len(waveform) > size and self._stream_model is not None:
                answers[index] = self._search(self._stream_model, waveform, threshold)
                continue
            best.length[index] = len(waveform)
            for start in window_starts(len(waveform), size):
                yield index, start, pad_or_crop(waveform[start:start + size], size)

    def _search(self, model: StreamModel, waveform: np.ndarray, threshold: float) -> Prediction:
        """Answer for a recording [T] by the surest keyword in it; where there is none, whether it is silence."""
        seconds = len(waveform) / self.sample_rate
        detections = tuple(listen(model, [waveform], model.settings.at_least(threshold)))
        if detections:
            surest = max(detections, key=lambda detection: detection.confidence)
            return Prediction(surest.word, surest.confidence, dict(surest.confidences), round(surest.start_seconds, 3),
                              seconds, detections)
        start, logits = self._first_sound(waveform)
        prediction, = decide(logits[None], self.labels, threshold)
        label = SILENCE if prediction.label == SILENCE else UNKNOWN
        return Prediction(label, prediction.confidences[label], prediction.confidences, start / self.sample_rate,
                          seconds, detections)

    def _first_sound(self, waveform: np.ndarray) -> tuple[int, np.ndarray]:
        """Return start and logits [C] of the first window that is not silence; of the first one where all are."""
        size, heard = self._runtime.num_samples, []
        starts = window_starts(len(waveform), size)
        for first in range(0, len(starts), BATCH_SIZE):  # in speech the first windows tell
            batch = starts[first:first + BATCH_SIZE]
            logits = self._runtime.logits(np.stack([waveform[start:start + size] for start in batch]))
            check_logits(logits, self.labels, len(batch))
            sound = np.flatnonzero(logits.argmax(axis=1) != self.labels.index(SILENCE))
            if len(sound):
                return batch[sound[0]], logits[sound[0]]
            heard.append(logits[0])
        return starts[0], heard[0]

    def _waveform(self, clip: Clip, name: str) -> np.ndarray:
        if isinstance(clip, (bytes, bytearray, memoryview, str, os.PathLike)) or is_remote(clip):
            return decode(clip, self.sample_rate, self._limits, name)  # type: ignore[arg-type]
        samples = samples_of(_array(clip, name or "array"), name or "array")
        return hear(samples, self.sample_rate, self.sample_rate, name or "array")[0]


def _array(clip: object, name: str) -> np.ndarray:
    """Return what a clip holds that is an array, or can say so itself, as tensors do."""
    if not hasattr(clip, "__array__"):
        raise AudioError(f"{name}: a {type(clip).__name__}; expected a path, the bytes of a file, or an array [T] of "
                         "samples (numpy.asarray makes one of a list)")
    try:
        return np.asarray(clip)
    except (TypeError, RuntimeError, ValueError) as error:  # a tensor on a GPU, or one with a gradient
        raise AudioError(f"{name}: a {type(clip).__name__} that does not become an array "
                         f"({first_line(error)[:200]})") from None


def _chunk(samples: object) -> np.ndarray:
    """Return a piece of running sound as an array; raises AudioError if its scale is wrong."""
    chunk = np.asarray(samples)
    if chunk.dtype.kind == "f":
        check_scale(chunk, "chunk")
    return chunk


class _BestWindows:
    """For every clip the window in which some keyword is most probable; the first of equal ones."""

    def __init__(self, num_clips: int, labels: LabelSet) -> None:
        self._labels = labels
        self.logits = np.zeros((num_clips, len(labels)), dtype=np.float32)
        self.start = np.zeros(num_clips, dtype=np.int64)
        self.length = np.zeros(num_clips, dtype=np.int64)  # samples of the whole recording
        self.score = np.full(num_clips, -1.0)

    def add(self, owners: np.ndarray, starts: np.ndarray, logits: np.ndarray) -> None:
        """Compare a batch of windows, [B] clip indices, [B] first samples, [B, C], with the best so far."""
        check_logits(logits, self._labels, len(owners))
        score = probabilities(logits)[:, :len(self._labels.keywords)].max(axis=1)
        order = np.lexsort((-starts, score))  # the last write of equal owners wins: the best score, the first start
        order = order[score[order] > self.score[owners[order]]]
        chosen = owners[order]
        self.logits[chosen], self.start[chosen], self.score[chosen] = logits[order], starts[order], score[order]
