"""Sound from a microphone, for as long as it takes: devices that are pulled out are waited for.

PortAudio raises nothing when a device goes away: its callbacks stop. So whoever reads waits for a block for a limited
time only, and opens the device again.
"""
from __future__ import annotations

import logging
import queue
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Union

import numpy as np

from kws.audio.conversion import Converter
from kws.audio.devices import (choose_device, find_again, import_portaudio, lasting_name, quiet_libraries,
                               recording_devices)
from kws.audio.rate_watch import RateWatch
from kws.errors import DataError

_BLOCK_SECONDS = 0.1
_LATENCY_SECONDS = 0.1  # that PortAudio may hold back
_WAITING_BLOCKS = 100  # 10 s: a computer that is busy for a while loses nothing
_PATIENCE_SECONDS = 5.0  # without a block, after which a device counts as gone; servers of sound start slowly
_RETRY_SECONDS = 1.0
_TELL_SECONDS = 60.0  # from one message about lost sound to the next
_GAP_SECONDS = 0.1  # of lost sound, from which the times of what follows are set anew

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gap:
    """Sound is missing here.

    Args:
        resumes_at: seconds from the start, of the next sample.
    """

    resumes_at: float


class _Block(NamedTuple):
    """samples: [T, channels] float32; arrived: seconds of the clock; lost: whether some were lost before it."""

    samples: np.ndarray
    arrived: float
    lost: bool


class Microphone:
    """A device that records.

    Args:
        sample_rate: Hz, wanted; the device's own rate is resampled if it has no such.
        device: index, or a part of the name; None: the system's default.

    Raises:
        DataError: "no_portaudio" if what plays and records is not installed, "no_microphone" if there is no such
            device, or it cannot be opened.
    """

    def __init__(self, sample_rate: int, device: Optional[str] = None) -> None:
        self._portaudio, self._sample_rate, self._wanted = import_portaudio(), sample_rate, device
        self._start: Optional[float] = None
        self.name = ""
        self._open()

    def blocks(self) -> Iterator[Union[np.ndarray, Gap]]:
        """Yield what is recorded, without end: [T] float32 each, mono, at the wanted rate; and where sound is missing.

        Time 0 is the first sample that came.
        """
        with_us = True
        try:
            while True:
                for block in self._session():
                    if not with_us:
                        logger.warning("%s: is back", self.name)
                        with_us = True
                    yield block
                if with_us:
                    logger.warning("%s: no more sound comes from it; waiting for it to come back", self.name)
                with_us = False
                self._close()
                self._open_again()
        finally:
            self._close()

    def _session(self) -> Iterator[Union[np.ndarray, Gap]]:
        """Yield what comes until nothing does."""
        converter, position = Converter(self._rate, self._sample_rate), _Position()
        watch, losses = RateWatch(self._rate), _Losses(self.name)
        while block := self._next():
            seconds = len(block.samples) / self._rate
            begins = block.arrived - seconds
            if self._start is None:
                self._start = begins
            elif position.is_new:
                yield Gap(begins - self._start)
            missing = position.add(begins, seconds)
            if block.lost:
                losses.add(block.arrived)
                watch.restart()
                if missing > _GAP_SECONDS:
                    converter, position = Converter(self._rate, self._sample_rate), _Position()
                    position.add(begins, seconds)
                    yield Gap(begins - self._start)
            elif other := watch.add(len(block.samples), block.arrived):
                logger.warning("%s: gives about %s samples a second where %s were agreed; words may not be recognised. "
                               "Choose another --device, or another rate in the system's settings", self.name,
                               f"{other:,}", f"{self._rate:,}")
            yield converter.convert(block.samples)

    def _next(self) -> Optional[_Block]:
        try:
            return self._blocks.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            return None

    def _open(self) -> None:
        """Open the device at the wanted rate or its own one, with as few channels as it does."""
        with quiet_libraries():
            channels = self._open_quietly()
        logger.info("%s: opened at %s Hz, %d channel(s)", self.name, f"{self._rate:,}", channels)

    def _open_quietly(self) -> int:
        portaudio = self._portaudio
        try:
            index = None
            if self._wanted is not None:
                devices = portaudio.query_devices()
                again = find_again(devices, self.name)
                index = choose_device(devices, self._wanted) if again is None else again
            device = portaudio.query_devices(index, "input")
            self.name = str(device["name"])
            if self._wanted is not None and self._wanted.isdecimal():
                self._wanted = lasting_name(self.name)
            rate, channels = self._agree(index, device)
            # A queue of its own for every stream: one that was given up may still deliver.
            self._rate, self._blocks = rate, queue.Queue[Optional[_Block]](_WAITING_BLOCKS)
            self._stream = portaudio.InputStream(
                samplerate=rate, blocksize=round(_BLOCK_SECONDS * rate), device=index, channels=channels,
                dtype="float32", latency=_LATENCY_SECONDS, callback=_filler(self._blocks),
                finished_callback=lambda blocks=self._blocks: _put_end(blocks))
            self._stream.start()
            return channels
        except (portaudio.PortAudioError, ValueError) as error:
            self._close()
            there = ", ".join(f"{number} {found['name']}" for number, found in
                              recording_devices(portaudio.query_devices()).items()) or "none"
            raise DataError(f"microphone {self._wanted or '(default)'}: cannot be opened: {error.args[0]}; "
                            f"found: {there}", "no_microphone") from None

    def _agree(self, index: Optional[int], device: Mapping[str, Any]) -> tuple[int, int]:
        """Find a rate and a number of channels that the device does."""
        own, most = round(device["default_samplerate"]), int(device["max_input_channels"])
        choices = [(rate, channels) for rate in dict.fromkeys((self._sample_rate, own))
                   for channels in dict.fromkeys((1, min(2, most), most))]
        for rate, channels in choices:
            try:
                self._portaudio.check_input_settings(index, channels, "float32", samplerate=rate)
                return rate, channels
            except self._portaudio.PortAudioError:
                continue
        return choices[-1]  # opening it says why not

    def _open_again(self) -> None:
        while True:
            time.sleep(_RETRY_SECONDS)
            try:
                with quiet_libraries():
                    # PortAudio lists devices when it starts, and knows no others.
                    with suppress(self._portaudio.PortAudioError):  # it did not start the last time
                        self._portaudio._terminate()
                    self._portaudio._initialize()
                self._open()
                return
            except (DataError, self._portaudio.PortAudioError) as error:
                logger.debug("%s", error)

    def _close(self) -> None:
        stream, self._stream = getattr(self, "_stream", None), None
        if stream is not None:
            stream.close(ignore_errors=True)


class _Position:
    """Compares the clock with the samples that came, so that lost ones show."""

    def __init__(self) -> None:
        self._first: Optional[float] = None
        self._heard = 0.0
        self._usual = 0.0  # seconds by which samples are behind the clock when nothing is lost

    @property
    def is_new(self) -> bool:
        return self._first is None

    def add(self, begins: float, seconds: float) -> float:
        """Count a block that begins at a time of the clock; return the seconds of sound that are missing before it."""
        if self._first is None:
            self._first = begins
        behind = begins - self._first - self._heard
        self._usual = min(self._usual, behind)
        self._heard += seconds
        return behind - self._usual


class _Losses:
    """Tells of blocks that were lost, the first time at once, then once a minute."""

    def __init__(self, name: str) -> None:
        self._name, self._count, self._next = name, 0, -1.0

    def add(self, now: float) -> None:
        self._count += 1
        if now >= self._next:
            self._next = now + _TELL_SECONDS
            logger.warning("%s: sound was lost, %d times so far; the computer is too busy", self._name, self._count)


def _filler(blocks: "queue.Queue[Optional[_Block]]") -> Any:
    """Make the function that PortAudio calls with each block; it must not wait."""
    lost = False

    def put(samples: np.ndarray, count: int, times: Any, status: Any) -> None:
        nonlocal lost
        lost |= bool(status.input_overflow)
        try:
            blocks.put_nowait(_Block(samples.copy(), time.monotonic(), lost))
            lost = False
        except queue.Full:
            lost = True

    return put


def _put_end(blocks: "queue.Queue[Optional[_Block]]") -> None:
    try:
        blocks.put_nowait(None)
    except queue.Full:  # whoever reads notices when nothing comes
        pass
