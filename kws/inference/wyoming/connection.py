"""One connection: its events, its sound, its detections. What goes wrong in it ends it, and no other."""
from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any, Optional

import numpy as np
from wyoming.error import Error
from wyoming.event import Event
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler
from wyoming.wake import Detection as Detected, NotDetected

from kws.errors import DataError, KwsError
from kws.inference.decision import Detection
from kws.inference.listening import Listener
from kws.inference.wyoming.clock import Clock
from kws.inference.wyoming.events import read_event
from kws.inference.wyoming.service import Service
from kws.inference.wyoming.sound import ChunkedSound, format_of

_GOODBYE_SECONDS = 1.0  # in which a client may read why it is refused
_KEEPALIVE_SECONDS = 60  # without a sign of life, after which the system asks whether a client is still there

logger = logging.getLogger(__name__)


class Connection(AsyncEventHandler):
    """Answers the events of one client.

    An event is answered before the next one is read, so that a client who sends faster than is heard has to wait, and
    nothing of it piles up here.

    Args:
        service: shared by all connections.
        reader: of the client's events.
        writer: for answers.
    """

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        host, port, *_ = writer.get_extra_info("peername") or ("a client that is gone", 0)
        self._service, self._name = service, f"{host}:{port}"
        self._names: frozenset[str] = frozenset()  # to detect; none: all
        self._listener: Optional[Listener] = None
        self._sound = ChunkedSound(service.model.sample_rate)
        self._clock, self._is_detected = Clock(), False
        self._answers = {"describe": self._describe, "detect": self._detect, "audio-start": self._start,
                         "audio-chunk": self._hear, "audio-stop": self._stop, "ping": self._ping}

    async def run(self) -> None:
        """Answer until the client ends, breaks off, or sends what cannot be answered."""
        try:
            with self._service.place():
                logger.debug("%s: connected", self._name)  # some ask twice a minute whether the service is there
                _watch(self.writer)
                while (event := await read_event(self.reader)) is not None:
                    await self.handle_event(event)
            logger.debug("%s: ended", self._name)
        except KwsError as error:
            logger.warning("%s: %s", self._name, error)
            await self._refuse(error)
        except OSError as error:
            logger.info("%s: broken off (%s)", self._name, error)
        except Exception:  # a fault of ours must not end the service
            logger.exception("%s: internal error", self._name)
        finally:
            self.writer.close()

    async def handle_event(self, event: Event) -> bool:
        """Answer an event; unknown ones are left out, as the protocol wants."""
        if event.type in self._answers:
            await self._answers[event.type](event)
        else:
            logger.debug("%s: %.80s is not answered", self._name, event.type)
        return True

    async def _describe(self, event: Event) -> None:
        await self.write_event(self._service.info)

    async def _ping(self, event: Event) -> None:
        await self.write_event(Pong(Ping.from_event(event).text).event())

    async def _detect(self, event: Event) -> None:
        names = event.data.get("names") or []
        known = self._service.model.labels.keywords
        if not isinstance(names, list) or not set(map(str, names)) <= set(known):
            raise DataError(f"detect: found names {names!r:.200}; this model knows {' '.join(known)}", "unknown_name")
        self._names = frozenset(names)

    async def _start(self, event: Event) -> None:
        self._begin(event)

    def _begin(self, event: Event) -> Listener:
        """Begin a new sound with an event that says what it is."""
        format_of(event.data)
        logger.info("%s: listening", self._name)
        self._listener = self._service.listener()
        self._sound = ChunkedSound(self._service.model.sample_rate)
        self._clock, self._is_detected = Clock(_milliseconds(event) or 0.0), False
        return self._listener

    async def _hear(self, event: Event) -> None:
        listener = self._listener or self._begin(event)  # wyoming-satellite sends chunks without audio-start
        form, time = format_of(event.data), _milliseconds(event)
        if time is not None:
            self._clock.mark(self._sound.seconds, time)
        for samples in self._sound.pieces(form, event.payload or b""):
            await self._feed(listener, samples)

    async def _stop(self, event: Event) -> None:
        if self._listener is not None:
            rest = self._sound.finish()
            await self._feed(self._listener, np.concatenate([rest, self._listener.closing_silence()]))
        self._listener = None
        if not self._is_detected:
            await self.write_event(NotDetected().event())

    async def _feed(self, listener: Listener, samples: np.ndarray) -> None:
        for detection in await self._service.together.feed(listener, samples):
            if not self._names or detection.word in self._names:
                await self._tell(detection)

    async def _tell(self, detection: Detection) -> None:
        self._is_detected = True
        time = round(self._clock.time_of(detection.time_seconds))
        logger.info("%s: %s, %.1f %%, at %d ms", self._name, detection.word, 100 * detection.confidence, time)
        await self.write_event(Detected(detection.word, time).event())

    async def _refuse(self, error: KwsError) -> None:
        """Say why the connection ends; what the client sent meanwhile is read, or it would not get the answer."""
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._say_goodbye(error), _GOODBYE_SECONDS)

    async def _say_goodbye(self, error: KwsError) -> None:
        await self.write_event(Error(str(error), error.code).event())
        self.writer.write_eof()
        while await self.reader.read(2**16):
            pass


def _milliseconds(event: Event) -> Optional[float]:
    """Read the time of an event, if it has one."""
    time = event.data.get("timestamp")
    if time is None:
        return None
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not -2**63 <= time < 2**63:  # nor NaN
        raise DataError(f"{event.type}: timestamp is {time!r:.40}; expected milliseconds", "bad_event")
    return time


def _watch(writer: asyncio.StreamWriter) -> None:
    """Let the system find out when the machine of a client is gone."""
    connected: Any = writer.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
