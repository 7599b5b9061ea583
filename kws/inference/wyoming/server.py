"""Serve the Wyoming protocol until a signal ends it."""
from __future__ import annotations

import asyncio
import signal
import socket
from functools import partial
from typing import Callable

from wyoming.server import AsyncTcpServer

from kws.inference.wyoming.connection import Connection
from kws.inference.wyoming.service import Service


async def serve(service: Service, host: str, port: int, is_announced: bool, tell: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, which end all connections.

    Args:
        service: that all connections share.
        host: address to listen at; 0.0.0.0: all of this machine.
        port: likewise.
        is_announced: whether Home Assistant finds it by itself; needs the package zeroconf.
        tell: called once connections are taken.
    Raises:
        OSError: if the address cannot be had.
    """
    server, stopped = AsyncTcpServer(host, port), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start(partial(Connection, service))
    if is_announced:
        from wyoming.zeroconf import HomeAssistantZeroconf

        name = f"kws-{socket.gethostname()}-{port}"
        await HomeAssistantZeroconf(port, name, None if host == "0.0.0.0" else host).register_server()
    tell()
    await stopped.wait()
    await server.stop()
