"""Hear a source to its end, and do with its detections what the user wants."""
from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Iterable, Optional, Union

import numpy as np

from kws.audio.microphone import Gap
from kws.inference.clips import ClipSaver
from kws.inference.decision import Detection
from kws.inference.lines import LineWriter
from kws.inference.listening import Listener
from kws.inference.meter import Meter
from kws.inference.programs import Programs


@dataclass
class Reactions:
    """What is done with each detection; leave it as a context, so that what waits is done, and files are closed.

    Args:
        lines: a line for each.
        meter: shows what is heard.
        programs: a program for each.
        clips: the sound of each.
    """

    lines: LineWriter
    meter: Meter
    programs: Optional[Programs] = None
    clips: Optional[ClipSaver] = None

    def __enter__(self) -> Reactions:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.meter.clear()
        if self.clips is not None:
            self.clips.finish()
        self.lines.close()
        if self.programs is not None:
            with suppress(KeyboardInterrupt):  # a second Ctrl-C does not wait for them either
                if kind is None:
                    self.programs.finish()
                    return
            self.programs.stop()

    @property
    def lost(self) -> bool:
        """Whether something could not be written."""
        return bool(self.lines.lost or (self.clips is not None and self.clips.lost))

    def starts(self, name: str, at_seconds: float = 0.0) -> None:
        """Take note of a new source, or of the end of a gap."""
        if self.clips is not None:
            self.clips.start(name, at_seconds)

    def sound(self, samples: np.ndarray) -> None:
        """Take note of the next samples, [T] float32."""
        if self.clips is not None:
            self.clips.sound(samples)

    def detected(self, name: str, detections: Iterable[Detection]) -> None:
        """React to what was heard."""
        for detection in detections:
            # Lines last: a signal that follows one must find all the rest taken note of.
            if self.clips is not None:
                self.clips.detection(detection)
            if self.programs is not None:
                self.programs.start({"path": name, **detection.as_record(),
                                     "confidence": f"{detection.confidence:.3f}"})
            self.meter.clear()
            self.lines.detection(name, detection)


def follow(listener: Listener, name: str, blocks: Iterable[Union[np.ndarray, Gap]], reactions: Reactions) -> None:
    """Hear a source from its start to its end.

    Args:
        listener: is reset.
        name: of the source.
        blocks: [T] float32 each, mono, at the model's rate, and gaps, after which the listener starts anew.
        reactions: what is done with detections.

    Raises:
        AudioError: as the source does.
    """
    listener.reset()
    reactions.starts(name)
    seconds = 0.0
    try:
        for block in blocks:
            if isinstance(block, Gap):
                reactions.detected(name, listener.finish())
                seconds = block.resumes_at
                listener.reset(seconds)
                reactions.starts(name, seconds)
                continue
            for first in range(0, len(block), listener.sample_rate):  # a second, so that words are told as they come
                samples = block[first:first + listener.sample_rate]
                seconds += len(samples) / listener.sample_rate
                reactions.sound(samples)
                reactions.detected(name, listener.feed(samples))
                reactions.meter.show(samples, seconds, listener.best())
    finally:
        reactions.detected(name, listener.finish())
