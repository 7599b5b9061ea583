"""The labels of a model and their order. This module is the only place that fixes the order."""
from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Collection, Iterator, Mapping, Sequence

UNKNOWN = "_unknown_"
SILENCE = "_silence_"
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # undecodable bytes of a name arrive as lone surrogates
_LONGEST_NAME = 255  # bytes, of a folder's name on every usual file system


def normal(name: str) -> str:
    """Return the one form (NFC) in which words are compared: systems write the same `ö` as one character or as two."""
    return unicodedata.normalize("NFC", name)


def check_word(word: str) -> str:
    """Return a word in its normal form, if it can be the name of a folder of recordings and means no other folder.

    Raises:
        ValueError: if it cannot.
    """
    if word.startswith(("_", ".")) or "/" in word or not word.strip():
        raise ValueError("expected the name of a word's folder: not empty, no slash, no _ or . at its start")
    if CONTROL.search(word) or len(word.encode()) > _LONGEST_NAME:
        raise ValueError(f"expected the name of a word's folder: no line breaks or other control characters, "
                         f"at most {_LONGEST_NAME} bytes")
    return normal(word)


@dataclass(frozen=True)
class LabelSet:
    """Ordered, distinct labels: the keywords as configured, then `_unknown_`, then `_silence_`.

    Args:
        names: all labels in index order; kept in their normal form.

    Raises:
        ValueError: if a name is repeated or one of the two reserved labels is missing.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(normal, self.names)))
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"labels repeat: {self.names}")
        if self.names[-2:] != (UNKNOWN, SILENCE):
            raise ValueError(f"labels end with {self.names[-2:]}; expected {(UNKNOWN, SILENCE)}")

    @classmethod
    def from_keywords(cls, keywords: Sequence[str]) -> LabelSet:
        """Build the label set of a spotter for these keywords."""
        return cls((*keywords, UNKNOWN, SILENCE))

    @classmethod
    def from_id2label(cls, id2label: Mapping[int, str]) -> LabelSet:
        """Read the label set back from a model's configuration."""
        return cls(tuple(id2label[index] for index in range(len(id2label))))

    @property
    def keywords(self) -> tuple[str, ...]:
        """The labels that are words to spot."""
        return self.names[:-2]

    def label_of(self, word: str) -> str:
        """Map a spoken word (a folder name) to its label."""
        word = normal(word)
        return word if word in self.names else UNKNOWN

    def columns(self, taken: Collection[str]) -> list[str]:
        """Name a column for each label in a table with other columns: as the label, or `label:NAME` if that is taken.

        Args:
            taken: names of the other columns.
        """
        return [f"label:{name}" if name in taken or name.startswith("label:") else name for name in self.names]

    def index(self, label: str) -> int:
        """Return the index of a label; raises ValueError for a label that is not in the set."""
        return self.names.index(normal(label))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)
