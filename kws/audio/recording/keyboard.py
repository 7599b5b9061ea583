"""Read single keys from a terminal without waiting for them."""
from __future__ import annotations

import os
import select
from types import TracebackType
from typing import Any, Optional, TextIO

try:
    import termios
    import tty
except ImportError:  # Windows
    termios = tty = None  # type: ignore[assignment]


class Keyboard:
    """Reads keys without Enter and without waiting; use it as a context, which leaves the terminal as it was.

    Args:
        terminal: standard input; if it is no terminal, no key is ever pressed.
    """

    def __init__(self, terminal: Optional[TextIO]) -> None:
        is_there = terminal is not None and termios is not None and terminal.isatty()
        self._handle: Optional[int] = terminal.fileno() if terminal is not None and is_there else None
        self._before: Any = None

    @property
    def is_there(self) -> bool:
        """Whether keys can be pressed."""
        return self._handle is not None

    def __enter__(self) -> Keyboard:
        if self._handle is not None:
            self._before = termios.tcgetattr(self._handle)
            tty.setcbreak(self._handle)
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        if self._handle is not None:
            termios.tcsetattr(self._handle, termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """Return the keys that were pressed since the last call, in lower case; "" for none."""
        if self._handle is None or not select.select([self._handle], [], [], 0)[0]:
            return ""
        keys = os.read(self._handle, 1000)
        if not keys:  # the terminal is gone
            self._handle = None
        return keys.decode(errors="replace").lower()
