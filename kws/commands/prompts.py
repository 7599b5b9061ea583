"""Guide somebody who records takes: prompts, warnings, playback and keys."""
from __future__ import annotations

import math
import sys
import time

import numpy as np

from kws.audio.recording.keyboard import Keyboard
from kws.audio.recording.loudspeaker import play
from kws.audio.recording.recorder import Recorder
from kws.audio.recording.takes import Take, TakeFinder
from kws.commands.cli import logger
from kws.errors import DataError
from kws.inference.meter import LevelBar

_ROOM_SECONDS = 1.0  # at the start, to measure the room
_PATIENCE_SECONDS = 10.0  # without a take, then a warning
_LOUD_ROOM_DB = -45.0  # dBFS
_MUTE_DB = -75.0  # dBFS; a microphone that is switched on is louder
_AFTER_KEYS_SECONDS = 0.3  # left out: keys can be heard
_KEYS = "p play, r again, q stop"


class Prompts:
    """Reports each take; with a microphone it also asks for the next one, checks levels and answers keys.

    Args:
        recorder: collects the takes.
        name: the source's, for messages.
        is_live: whether the source is a microphone.
        bar: shows the level.
        keyboard: the speaker's.
    """

    def __init__(self, recorder: Recorder, name: str, is_live: bool, bar: LevelBar, keyboard: Keyboard) -> None:
        self._recorder, self._name, self._is_live, self._bar, self._keyboard = recorder, name, is_live, bar, keyboard
        self._asked = ""  # the last prompt that was printed
        self._heard = 0.0  # seconds
        self._waited = 0.0  # seconds since the last take, or the last warning that none comes
        self._ignored = 0  # samples still to be left out

    def listened(self, block: np.ndarray) -> np.ndarray:
        """Return the next sound, [T], without what was recorded during playback and key presses."""
        left_out = min(self._ignored, len(block))
        self._ignored -= left_out
        return block[left_out:]

    def show(self, block: np.ndarray, finder: TakeFinder) -> None:
        """Show the level of the next sound, [T], and what to say."""
        seconds = len(block) / finder.sample_rate
        before, self._heard, self._waited = self._heard, self._heard + seconds, self._waited + seconds
        if not self._is_live:
            self._bar.draw(block, f"{self._name}: {self._recorder.prompt}, {self._heard:.0f} s", "")
            return
        if before < _ROOM_SECONDS <= self._heard:
            self._tell_room(finder.floor_db)
        if self._waited >= _PATIENCE_SECONDS:
            self._waited = 0.0
            self._warn(f"heard no word for {_PATIENCE_SECONDS:.0f} s; the level is {finder.floor_db:.0f} dBFS"
                       + (". Is the microphone switched off?" if finder.floor_db < _MUTE_DB else ""))
        if self._heard < _ROOM_SECONDS:
            self._bar.draw(block, "quiet, please", "")
            return
        prompt = f"say: {self._recorder.prompt}"
        if not self._bar.is_shown and prompt != self._asked:
            self._print(prompt)
        self._asked = prompt
        self._bar.draw(block, prompt, _KEYS if self._keyboard.is_there else "")

    def kept(self, prompt: str, take: Take) -> None:
        """Report a take that was kept."""
        self._waited = 0.0
        self._bar.clear()
        kept = self._recorder.kept[-1]
        print(f"{prompt:<16} {take.seconds:5.2f} s {kept.level_db:5.0f} dBFS  {kept.path}", flush=True)

    def refused(self, take: Take, fault: str) -> None:
        """Report a take that was refused, and why."""
        self._waited, self._asked = 0.0, ""
        at = "" if self._is_live else f", at {take.at_seconds + take.start / take.sample_rate:.1f} s"
        self._warn(f"not kept{at}: {fault}")

    def answer(self, keys: str) -> bool:
        """Obey the keys that were pressed; return whether to go on."""
        if "q" in keys:
            return False
        if "r" in keys and (dropped := self._recorder.drop()):
            self._print(f"removed: {dropped}")
        if "p" in keys and self._recorder.kept:
            began = time.monotonic()
            self._play()
            self._leave_out(time.monotonic() - began)
        if keys:
            self._leave_out(_AFTER_KEYS_SECONDS)
        return True

    def _leave_out(self, seconds: float) -> None:
        self._ignored += math.ceil(seconds * self._recorder.folder.sample_rate)

    def _play(self) -> None:
        try:
            play(self._recorder.last(), self._recorder.folder.sample_rate)
        except (DataError, OSError) as error:  # no loudspeaker, or somebody removed the file
            self._warn(str(error))

    def _tell_room(self, floor_db: float) -> None:
        self._print(f"{self._name}: the room is at {floor_db:.0f} dBFS")
        if floor_db > _LOUD_ROOM_DB:
            self._warn("the room is loud; find a quieter place, or go nearer to the microphone")

    def _print(self, line: str) -> None:
        """Print what is for people, not for a program that reads standard output."""
        self._bar.clear()
        print(line, file=sys.stderr, flush=True)

    def _warn(self, line: str) -> None:
        logger.warning("%s: %s", self._name, line)
