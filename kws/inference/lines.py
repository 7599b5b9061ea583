"""Detections as lines of text or JSON, each written at once; a full disk does not end the listening."""
from __future__ import annotations

import json
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Optional

from kws.errors import AudioError
from kws.inference.decision import Detection

FORMATS = ("text", "jsonl")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

logger = logging.getLogger(__name__)


def in_one_line(name: str) -> str:
    """Escape what would break a line of text: names of files may hold line breaks and control characters."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], name)


class LineWriter:
    """Writes a line for each detection, as soon as there is one.

    Args:
        path: a file, replaced; None: standard output.
        kind: one of `FORMATS`.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Optional[Path], kind: str) -> None:
        self._path, self._kind = path, kind
        self._file = None if path is None else open(path, "wb", buffering=0)
        self.lost = 0

    def detection(self, name: str, detection: Detection) -> None:
        """Write what was heard in a source."""
        if self._kind == "jsonl":
            self._write(json.dumps({"path": name, **detection.as_record()}, ensure_ascii=False))
        else:
            self._write(f"{detection.time_seconds:9.2f} s  {detection.word:<12} {detection.confidence:6.1%}  "
                        f"{in_one_line(name)}")

    def error(self, name: str, error: AudioError) -> None:
        """Write why a source could not be heard, where programs read it."""
        if self._kind == "jsonl":
            self._write(json.dumps({"path": name, "error": f"{error.code}: {error}"}, ensure_ascii=False))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, line: str) -> None:
        try:
            if self._file is None:
                print(line, flush=True)
            else:
                self._append((line + "\n").encode("utf-8", errors="backslashreplace"))
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self.lost:
                logger.error("%s: %s; lines are lost, listening goes on", self._path or "standard output",
                             error.strerror)
            self.lost += 1

    def _append(self, line: bytes) -> None:
        """Write a line whole or not at all."""
        assert self._file is not None
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError:
            with suppress(OSError):  # a pipe, a device
                self._file.seek(-written, os.SEEK_CUR)
                self._file.truncate()
            raise
