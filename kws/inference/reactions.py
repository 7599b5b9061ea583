"""Hear a source to its end, and do with its detections what the user wants."""
from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Iterable, Optional

import numpy as np

from kws.audio.microphone import Gap
from kws.inference.clips import ClipSaver
from kws.inference.decision import Detection
from kws.inference.lines import LineWriter
from kws.inference.listening import Listener
from kws.inference.meter import Meter
from kws.inference.programs import Programs
from kws.inference.sources import SoundSource


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
            try:
                if kind is None:
                    self.programs.finish()
            finally:
                with suppress(KeyboardInterrupt):  # a second Ctrl-C does not wait for them either
                    self.programs.stop()

    @property
    def lost(self) -> bool:
        """Whether something could not be written, or a program could not be started for all."""
        return bool(self.lines.lost or (self.clips is not None and self.clips.lost)
                    or (self.programs is not None and self.programs.lost))

    def starts(self, name: str, at_seconds: float = 0.0) -> None:
        """Take note of a new source, or of the end of a gap."""
        if self.clips is not None:
            self.clips.start(name, at_seconds)

    def sound(self, samples: np.ndarray) -> None:
        """Take note of the next samples, [T] float32."""
        if self.clips is not None:
            self.clips.sound(samples)

    def detected(self, source: SoundSource, detections: Iterable[Detection]) -> None:
        """React to what was heard."""
        for detection in detections:
            # Lines last: a signal that follows one must find all the rest taken note of.
            if self.clips is not None:
                self.clips.detection(detection)
            if self.programs is not None:
                self.programs.start({"path": source.name, **detection.as_record(),
                                     "confidence": f"{detection.confidence:.3f}"}, source.can_wait)
            self.meter.clear()
            self.lines.detection(source.name, detection)


def follow(listener: Listener, source: SoundSource, reactions: Reactions) -> None:
    """Hear a source from its start to its end.

    Args:
        listener: is reset; starts anew after a gap.
        source: at the model's rate.
        reactions: what is done with detections.

    Raises:
        AudioError: as the source does.
    """
    listener.reset()
    reactions.starts(source.name)
    seconds = 0.0
    try:
        for block in source.blocks():
            if isinstance(block, Gap):
                reactions.detected(source, listener.finish())
                seconds = block.resumes_at
                listener.reset(seconds)
                reactions.starts(source.name, seconds)
                continue
            for first in range(0, len(block), listener.sample_rate):  # a second, so that words are told as they come
                samples = block[first:first + listener.sample_rate]
                seconds += len(samples) / listener.sample_rate
                reactions.sound(samples)
                reactions.detected(source, listener.feed(samples))
                reactions.meter.show(samples, seconds, listener.best())
    finally:
        reactions.detected(source, listener.finish())
