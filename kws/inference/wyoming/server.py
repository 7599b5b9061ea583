"""Serve the Wyoming protocol until a signal ends it."""
from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import Callable

from wyoming.server import AsyncTcpServer

from kws.inference.wyoming.connection import Connection
from kws.inference.wyoming.service import Service


async def serve(service: Service, host: str, port: int, tell: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, which end all connections.

    Args:
        service: that all connections share.
        host: address to listen at; 0.0.0.0: all of this machine.
        port: likewise.
        tell: called once connections are taken.
    Raises:
        OSError: if the address cannot be had.
    """
    server, stopped = AsyncTcpServer(host, port), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start(partial(Connection, service))
    tell()
    await stopped.wait()
    await server.stop()
