"""Ogg (RFC 3533): every page of one stream."""
from __future__ import annotations

import re

from kws.audio.flac import complete_flac
from kws.audio.wav import CONVERT
from kws.errors import AudioError


def complete_ogg(content: bytes, name: str) -> bytes:
    """Walk the pages; FLAC is taken out of them."""
    position, bodies, kinds, lacing = 0, [], [], b""
    while content.startswith(b"OggS", position):
        lacing = content[position + 27:position + 27 + content[position + 26]] if position + 27 <= len(content) else b""
        kinds.append(content[position + 5:position + 6])
        start = position + 27 + len(lacing)
        position = start + sum(lacing)
        bodies.append(content[start:position])
    flags = b"".join(kinds)
    if position < len(content):
        raise AudioError(f"{name}: {len(content) - position:,} bytes after {len(bodies):,} pages of Ogg are no page; "
                         f"{CONVERT}", "truncated_audio")
    if position > len(content) or not flags[-1] & 4 or lacing[-1:] == b"\xff":
        raise AudioError(f"{name}: its last page of Ogg is cut off or not marked as the last. Is the file truncated?",
                         "truncated_audio")
    if re.search(rb"[^\2\6][\2\6]", flags):  # a stream begins after another one did
        raise AudioError(f"{name}: several Ogg recordings one after the other; expected one; {CONVERT}")
    if bodies[0].startswith(b"\x7fFLAC"):
        return complete_flac(b"".join(bodies)[9:], name)  # 9 bytes in front of what a FLAC file begins with
    return content
