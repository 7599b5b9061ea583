"""Start a program for each detection, one at a time, beside the listening and never in its way."""
from __future__ import annotations

import logging
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from typing import Mapping, Optional

from kws.errors import DataError

_WAITING = 16  # detections that wait for a program
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

logger = logging.getLogger(__name__)


class Programs:
    """Runs a command for each detection, as a list of arguments, without a shell.

    Its output goes to standard error, so that standard output holds detections only.

    Args:
        command: program and arguments, quoted as for a shell; {word}, {confidence}, {time_s} and the like are filled
            in afterwards, so that no word becomes two arguments.
        timeout_seconds: after which it is killed.

    Attributes:
        lost: detections for which it was not started, because too many waited already.

    Raises:
        DataError: "bad_command" for none, for one that is not there, or for a quote without an end.
    """

    def __init__(self, command: str, timeout_seconds: float = 10.0) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise DataError(f"--exec {command}: {error}; expected a program and its arguments", "bad_command") from None
        if not self._arguments:
            raise DataError("--exec: no program; for example --exec 'notify-send {word}'", "bad_command")
        if not _PLACEHOLDER.search(program := self._arguments[0]) and shutil.which(program) is None:
            raise DataError(f"--exec {program}: no such program; expected one on the PATH, or the path of a file that "
                            "may be executed", "bad_command")
        self._timeout_seconds, self._closing, self.lost = timeout_seconds, False, 0
        self._waiting: queue.Queue[Optional[list[str]]] = queue.Queue(_WAITING)
        self._running: Optional[subprocess.Popen[bytes]] = None
        self._worker = threading.Thread(target=self._work, name="programs", daemon=True)
        self._worker.start()

    def start(self, values: Mapping[str, object], can_wait: bool = False) -> None:
        """Run the program soon, with these values; where too many wait already, wait too, or leave this one out."""
        arguments = [_PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), argument)
                     for argument in self._arguments]
        try:
            self._waiting.put(arguments, block=can_wait)
        except queue.Full:
            self.lost += 1
            logger.error("%s: %d detections wait for it already; it is not started for %s", self._arguments[0],
                         _WAITING, values.get("word"))

    def finish(self) -> None:
        """Wait until the program has been run for every detection."""
        self._waiting.put(None)
        self._worker.join()

    def stop(self) -> None:
        """Start nothing more, and end what runs."""
        self._closing = True
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        if (running := self._running) is not None:
            _kill(running)
        self._worker.join(timeout=1.0)

    def _work(self) -> None:
        while (arguments := self._waiting.get()) is not None and not self._closing:
            if problem := self._run(arguments):
                logger.error("%s: %s", arguments[0], problem)

    def _run(self, arguments: list[str]) -> str:
        """Run the program; return what went wrong, or ""."""
        try:
            self._running = running = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=2,
                                                       start_new_session=True)
        except (OSError, ValueError) as error:
            return f"cannot be started: {getattr(error, 'strerror', None) or error}"
        try:
            code = running.wait(self._timeout_seconds)
        except subprocess.TimeoutExpired:
            _kill(running)
            return f"did not end within {self._timeout_seconds:g} s; it was killed"
        finally:
            self._running = None
        if code and not self._closing:
            return f"failed with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        return ""


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program and those that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
