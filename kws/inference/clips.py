"""Keep the sound around each detection as a WAV file, to listen to and to train on."""
from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import numpy as np
import soundfile

from kws.files.atomic import atomic_file
from kws.inference.decision import Detection

MAX_CLIPS = 10_000  # of one run; 32 kB each
_CLIP_SECONDS = 1.0  # what a clip of the training lasts
_HELD_SECONDS = 5.0  # words that are known later than this after they were said do not exist

logger = logging.getLogger(__name__)


class ClipSaver:
    """Writes one second around each word, its middle in the middle; the folder is made.

    Args:
        folder: where clips go.
        sample_rate: Hz, of the sound.

    Raises:
        OSError: if the folder cannot be made.
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._sample_rate = folder, sample_rate
        self._names: set[str] = set()
        self._waiting: list[tuple[float, str]] = []  # time of a clip's first sample, name
        self.lost = 0
        self.start("")

    def start(self, name: str, at_seconds: float = 0.0) -> None:
        """Begin a source, or go on with it after a gap; what is still waiting is written."""
        self.finish()
        source = re.sub(r"[^\w.]+", "_", name).strip("_.").encode()[-80:].decode(errors="ignore")  # of 255 bytes
        source = source or "stdin"
        # A recording that is heard again gives the same clips again; what is heard live never comes again.
        self._prefix = source if Path(name).is_file() else f"{source}_{time.strftime('%Y%m%dT%H%M%S')}"
        self._held, self._held_until = np.empty(0, dtype=np.float32), at_seconds

    def sound(self, samples: np.ndarray) -> None:
        """Remember the next samples, [T] float32."""
        keep = round(_HELD_SECONDS * self._sample_rate)
        self._write_complete()  # of words in sound that is forgotten now
        held, until = np.concatenate([self._held[-keep:], samples]), self._held_until + len(samples) / self._sample_rate
        self._held, self._held_until = held, until
        self._write_complete()

    def detection(self, detection: Detection) -> None:
        """Remember a word in the sound so far; its clip is written with the next sound that completes it."""
        middle = (detection.start_seconds + detection.end_seconds) / 2
        word = detection.word.replace("/", "_")[:24]
        name = f"{self._prefix}_{detection.time_seconds:010.2f}_{word}_{detection.confidence:.3f}"
        self._waiting.append((max(middle - _CLIP_SECONDS / 2, 0.0), name))

    def finish(self) -> None:
        """Write what waits for sound that will not come."""
        while self._waiting:
            self._write_next()

    def _write_complete(self) -> None:
        while self._waiting and self._waiting[0][0] + _CLIP_SECONDS <= self._held_until:
            self._write_next()

    def _write_next(self) -> None:
        self._write(*self._waiting[0])
        self._waiting.pop(0)  # now only: a signal may end the writing, and what waits is written at the end

    def _write(self, begins: float, name: str) -> None:
        if len(self._names) >= MAX_CLIPS:
            self._lose(f"holds {MAX_CLIPS:,} clips of this run, the limit")
            return
        first = len(self._held) - round((self._held_until - begins) * self._sample_rate)
        clip = self._held[max(first, 0):max(first, 0) + round(_CLIP_SECONDS * self._sample_rate)]
        if not len(clip):
            return
        name = name if name not in self._names else f"{name}-{len(self._names)}"  # of files with the same name
        try:
            with atomic_file(self._folder / f"{name}.wav") as temporary:
                soundfile.write(temporary, clip, self._sample_rate, subtype="PCM_16", format="WAV")
            self._names.add(name)
        except (OSError, soundfile.LibsndfileError) as error:
            self._lose(str(getattr(error, "strerror", None) or error))

    def _lose(self, why: str) -> None:
        """Tell once that clips are lost."""
        if not self.lost:
            logger.error("%s: %s; clips are lost, listening goes on", self._folder, why)
        self.lost += 1
