"""Record takes of words: which is next, which are kept, and why others are not."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

from kws.audio.recording.files import TakeFolder
from kws.audio.recording.quality import clip_of, fault_of, level_db
from kws.audio.recording.takes import Take


@dataclass(frozen=True)
class Kept:
    """A take that was written.

    Args:
        word: that it is of.
        path: of the clip.
        take: the whole of it.
        level_db: of its loudest part, dBFS.
    """

    word: str
    path: Path
    take: Take
    level_db: float


@dataclass
class Recorder:
    """Takes of some words, by one speaker.

    Args:
        words: in normal form; said in turn, so that each take is a new start.
        wanted: takes of each word; None: as many as there are.
        folder: where they go.
        window_seconds: that a word has to fit in.
    """

    words: Sequence[str]
    wanted: Optional[int]
    folder: TakeFolder
    window_seconds: float
    kept: list[Kept] = field(default_factory=list)
    refused: int = 0

    @property
    def word(self) -> str:
        """What is to be said next."""
        return self.words[len(self.kept) % len(self.words)]

    @property
    def is_complete(self) -> bool:
        """Whether all takes are there."""
        return self.wanted is not None and len(self.kept) >= self.wanted * len(self.words)

    @property
    def prompt(self) -> str:
        """The next word, and which take of it this is."""
        number = len(self.kept) // len(self.words) + 1
        return f"{self.word} {number}" + (f"/{self.wanted}" if self.wanted is not None else "")

    def add(self, take: Take) -> Optional[str]:
        """Keep a take; or return why not."""
        fault = fault_of(take, self.window_seconds)
        if fault is not None:
            self.refused += 1
            return fault
        path = self.folder.write(self.word, clip_of(take, self.window_seconds), take.samples)
        self.kept.append(Kept(self.word, path, take, level_db(take)))
        return None

    def drop(self) -> Optional[Kept]:
        """Remove the last take that was kept, so that it is asked for again; return it, if there was one."""
        if not self.kept:
            return None
        self.folder.remove(self.kept[-1].path)
        return self.kept.pop()
