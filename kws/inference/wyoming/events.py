"""Events of the Wyoming protocol, read with limits: nothing that a client announces is believed before it is checked.

The package's own reader allocates whatever length a header states, and ends without a word at what it cannot parse.
"""
from __future__ import annotations

import asyncio
import json
from typing import Any, Mapping, Optional

from wyoming.event import Event

from kws.errors import DataError

MAX_HEADER_BYTES = 2**16  # what asyncio's StreamReader takes for a line
MAX_DATA_BYTES = 2**16
MAX_PAYLOAD_BYTES = 2**20  # 33 s of sound at 16 kHz, 16 bit; 0.5 s at 192 kHz, 5 channels, 16 bit
_MAJOR = "1"  # version of the protocol


async def read_event(reader: asyncio.StreamReader) -> Optional[Event]:
    """Read the next event; None at the end of the connection.

    Raises:
        DataError: "bad_event", "too_large" or "other_version"; "broken_off" where the connection ends within an event.
    """
    try:
        line = await reader.readline()
    except ValueError:
        raise DataError(f"a header of more than {MAX_HEADER_BYTES:,} bytes without an end; expected a line of JSON",
                        "too_large") from None
    if not line:
        return None
    if not line.endswith(b"\n"):
        raise DataError("the connection ends within the header of an event", "broken_off")
    header = _parse_object(line, "a header")
    kind, data = header.get("type"), header.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise DataError(f"an event of type {kind!r:.80} with data {data!r:.80}; expected a name and an object",
                        "bad_event")
    _check_version(header.get("version"))
    more = await _read_part(reader, header, "data_length", MAX_DATA_BYTES)
    payload = await _read_part(reader, header, "payload_length", MAX_PAYLOAD_BYTES)
    if more:
        data = {**data, **_parse_object(more, f"data of {kind}")}
    return Event(kind, data, payload or None)


async def _read_part(reader: asyncio.StreamReader, header: Mapping[str, Any], name: str, most: int) -> bytes:
    """Read as many bytes as the header states in this field, if it is not more than it may be."""
    length = header.get(name) or 0
    if not isinstance(length, int) or length < 0:
        raise DataError(f"{header['type']:.80}: {name} is {length!r:.80}; expected a number of bytes", "bad_event")
    if length > most:
        raise DataError(f"{header['type']:.80}: {name} is {length:,}; at most {most:,} bytes are taken in one event. "
                        "Send sound in shorter chunks", "too_large")
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise DataError(f"{header['type']:.80}: {len(error.partial):,} of {length:,} bytes; the connection ends within "
                        "the event", "broken_off") from None


def _parse_object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{what} that is no JSON, {text[:60]!r}; expected the Wyoming protocol: a line of JSON for "
                        "each event", "bad_event") from None
    if not isinstance(found, dict):
        raise DataError(f"{what} that is {text[:60]!r}; expected a JSON object", "bad_event")
    return found


def _check_version(version: Any) -> None:
    """Refuse another generation of the protocol, whose events may mean something else; clients may leave it out."""
    if version is not None and str(version).partition(".")[0] != _MAJOR:
        raise DataError(f"version {version!r:.40} of the Wyoming protocol; expected {_MAJOR}.x", "other_version")
