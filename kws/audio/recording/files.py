"""Write takes into a data folder: a folder for each word, speaker and number in the name of each file."""
from __future__ import annotations

import io
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

import numpy as np
import soundfile

from kws.audio.folders import TAKES_FOLDER
from kws.errors import DataError
from kws.files.atomic import atomic_file
from kws.files.locks import exclusive
from kws.model.labels import normal

_BETWEEN = "_nohash_"  # speaker and number of the take, as Speech Commands has it
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff/\\:*?\"<>|]")  # on some system
_LONGEST_NAME = 200  # bytes; with number and suffix it has at most 255


def checked_speaker(name: str) -> str:
    """Return a speaker's name in its normal form.

    Raises:
        DataError: "bad_name" if it cannot be read back from the name of a file.
    """
    name = normal(name.strip())
    if not name or name.startswith((".", "_")) or _NOT_IN_NAMES.search(name) or len(name.encode()) > _LONGEST_NAME:
        raise DataError(f"--speaker {name!r}: cannot be part of a file's name; expected letters, digits, spaces, - and "
                        f"_, at most {_LONGEST_NAME} bytes, no _ or . at its start", "bad_name")
    if f"{name}{_BETWEEN}".index(_BETWEEN) != len(name):
        raise DataError(f"--speaker {name}: holds {_BETWEEN}, which ends the speaker's name in the name of a file; "
                        "choose another name", "bad_name")
    return name


class TakeFolder:
    """Writes the takes of one speaker into a data folder.

    Args:
        root: the data folder; made if it is missing.
        speaker: in the normal form of `checked_speaker`.
        sample_rate: Hz.
    """

    def __init__(self, root: Path, speaker: str, sample_rate: int) -> None:
        self._root, self._speaker, self.sample_rate = root, speaker, sample_rate

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder against other recordings; this also shows whether it can be written.

        Raises:
            DataError: "in_use" if another recording goes on there.
        """
        takes = self._root / TAKES_FOLDER
        missing = [path for path in (takes, self._root) if not path.exists()]
        try:
            with exclusive(takes / "recording", "kws record"):
                yield
        finally:
            for path in missing:
                with suppress(OSError):  # not empty: something was recorded
                    path.rmdir()

    def write(self, word: str, clip: np.ndarray, take: np.ndarray) -> Path:
        """Write a clip and its whole take under the next free number.

        Args:
            word: in normal form.
            clip, take: [T] float32 in -1..1.
        Returns:
            the path of the clip.
        """
        folder, whole = self._folder(self._root, word), self._folder(self._root / TAKES_FOLDER, word)
        number = 1 + max((self._number(path.name) for place in (folder, whole) for path in _files(place)), default=-1)
        name = f"{self._speaker}{_BETWEEN}{number}.wav"
        self._write(whole / name, take)
        try:
            self._write(folder / name, clip)
        except BaseException:
            (whole / name).unlink()
            raise
        return folder / name

    def remove(self, path: Path) -> None:
        """Remove a clip that `write` returned, and its take, if nobody else did."""
        path.unlink(missing_ok=True)
        (self._root / TAKES_FOLDER / path.parent.name / path.name).unlink(missing_ok=True)

    def _folder(self, place: Path, word: str) -> Path:
        """Find the folder of a word, however its name is composed."""
        return next((path for path in _files(place) if normal(path.name) == word), place / word)

    def _number(self, name: str) -> int:
        """Read the number in the name of a take of the speaker; -1 for any other name."""
        found = re.match(rf"{re.escape(self._speaker)}{_BETWEEN}(\d+)", normal(name), re.I)
        return int(found[1]) if found else -1

    def _write(self, path: Path, samples: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        soundfile.write(content, samples, self.sample_rate, subtype="PCM_16", format="WAV")
        with atomic_file(path) as temporary:
            temporary.write_bytes(content.getvalue())


def _files(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
