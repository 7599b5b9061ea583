"""Serve the Wyoming protocol until a signal ends it."""
from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from functools import partial
from typing import Callable

from wyoming.server import AsyncTcpServer

from kws.inference.wyoming.connection import Connection
from kws.inference.wyoming.service import Service

logger = logging.getLogger(__name__)


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
        await _announce(host, port)
    tell()
    await stopped.wait()
    await server.stop()


async def _announce(host: str, port: int) -> None:
    """Let Home Assistant find the service; where that cannot be done, it is said, and the service is there as well."""
    from wyoming.zeroconf import HomeAssistantZeroconf

    name = f"kws-{socket.gethostname()}-{uuid.getnode():012x}-{port}"  # machines of one name are announced side by side
    try:
        address = None if host in ("0.0.0.0", "::") else socket.gethostbyname(host)
        await HomeAssistantZeroconf(port, name, address).register_server()
    except Exception as error:  # of a network that is not there yet, or of zeroconf
        logger.warning("not announced (%s); add it to Home Assistant by host and port", str(error) or repr(error))
        return
    if address and address.startswith("127."):
        logger.warning("announced as %s, which only this machine can reach; --uri tcp://0.0.0.0:%d is for others",
                       address, port)
