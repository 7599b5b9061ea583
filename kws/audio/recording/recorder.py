"""Collect takes of words: which word is next, which takes are kept, and why others are refused."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import soundfile

from kws.audio.recording.files import TakeFolder
from kws.audio.recording.quality import clip_of, fault_of, level_db
from kws.audio.recording.takes import Take


@dataclass(frozen=True)
class Kept:
    """A take that was written; its sound is in the file only, so that memory does not grow with takes.

    Args:
        path: of its clip.
        level_db: dBFS of its loudest part.
    """

    path: Path
    level_db: float


@dataclass
class Recorder:
    """Collects takes of some words by one speaker.

    Args:
        words: in normal form; asked for in turn, so that takes of one word sound less alike.
        wanted: takes of each word; None keeps all there are.
        folder: writes them.
        window_seconds: length that a word has to fit in.
    """

    words: Sequence[str]
    wanted: Optional[int]
    folder: TakeFolder
    window_seconds: float
    kept: list[Kept] = field(default_factory=list)
    refused: int = 0

    @property
    def word(self) -> str:
        """The word to say next."""
        return self.words[len(self.kept) % len(self.words)]

    @property
    def is_complete(self) -> bool:
        """Whether no more takes are wanted."""
        return self.wanted is not None and len(self.kept) >= self.wanted * len(self.words)

    @property
    def prompt(self) -> str:
        """The next word, and the number of its take."""
        number = len(self.kept) // len(self.words) + 1
        return f"{self.word} {number}" + (f"/{self.wanted}" if self.wanted is not None else "")

    def add(self, take: Take) -> Optional[str]:
        """Keep a good take; return why another is refused."""
        fault = fault_of(take, self.window_seconds)
        if fault is not None:
            self.refused += 1
            return fault
        path = self.folder.write(self.word, clip_of(take, self.window_seconds), take.samples)
        self.kept.append(Kept(path, level_db(take)))
        return None

    def last(self) -> np.ndarray:
        """Read the clip of the last take that was kept, [T] float32; raises OSError if somebody removed it."""
        with open(self.kept[-1].path, "rb") as file:
            return np.asarray(soundfile.read(file, dtype="float32")[0])

    def drop(self) -> Optional[Path]:
        """Remove the last take that was kept, which is asked for again; return its path, None if there is none."""
        if not self.kept:
            return None
        path = self.kept.pop().path
        self.folder.remove(path)
        return path
