"""FLAC (RFC 9639): how many samples there are, as its last frame says."""
from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Iterator, Optional

import numpy as np

from kws.errors import AudioError

_LARGEST_FLAC_FRAME = 2**22  # bytes: 65,535 samples, 8 channels, 32 bit, and some
_FLAC_CANDIDATES = 32  # places that look like the last frame; in noise one in 2**23 bytes does


def complete_flac(content: bytes, name: str) -> bytes:
    """Find the last frame which says how many samples there are, and state that in the header."""
    position, last, info = 4, False, b""
    while not last and position + 4 <= len(content):
        last, kind = content[position] >= 128, content[position] & 127
        size = int.from_bytes(content[position + 1:position + 4], "big")
        info = info or (content[position + 4:position + 4 + size] if kind == 0 else b"")
        position += 4 + size
    if not last or len(info) < 34 or content[4] & 127:
        raise AudioError(f"{name}: a FLAC file without a whole header. Is the file truncated?", "truncated_audio")
    found = 0 if position == len(content) else _last_flac_sample(content, position, int.from_bytes(info[2:4], "big"))
    promised = int.from_bytes(info[13:18], "big") % 2**36
    if found is None:
        raise AudioError(f"{name}: no FLAC frame ends where the file ends. Is it truncated, or does something follow?",
                         "truncated_audio")
    if promised not in (0, found):
        raise AudioError(f"{name}: {found:,} samples; its header promises {promised:,}. Is the file truncated?",
                         "truncated_audio")
    if promised == found:
        return content
    stated = (int.from_bytes(info[13:18], "big") + found).to_bytes(5, "big")
    return content[:21] + stated + content[26:]  # the header is the first block, at byte 8


def _last_flac_sample(content: bytes, start: int, block_size: int) -> Optional[int]:
    """Return how many samples there are up to the end of the frame that ends where the file does; None without one."""
    for position, samples in islice(_flac_headers(content, start, block_size), _FLAC_CANDIDATES):
        if _crc16(content[position:]) == 0:
            return samples
    return None


def _flac_headers(content: bytes, start: int, block_size: int) -> Iterator[tuple[int, int]]:
    """Yield (position, samples up to the end of the frame) of what looks like the header of a frame, from the end."""
    position, lowest = len(content), max(start, len(content) - _LARGEST_FLAC_FRAME)
    while (position := content.rfind(b"\xff", lowest, position)) >= 0:
        head = content[position:position + 16]
        if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[2] < 16 or head[3] & 1:
            continue
        size, rate, length = head[2] >> 4, head[2] & 15, 8 - (head[4] ^ 255).bit_length()  # leading ones of the number
        length = length or 1
        number = head[4] & (127 >> length if length > 1 else 127)
        for byte in head[5:4 + length]:
            number = number << 6 | byte & 63
        extra = 4 + length
        width = {6: 1, 7: 2}.get(size, 0)
        samples = (int.from_bytes(head[extra:extra + width], "big") + 1 if width else 192 if size == 1 else
                   576 << size - 2 if size < 6 else 256 << size - 8)
        end = extra + width + {12: 1, 13: 2, 14: 2}.get(rate, 0)
        if end < len(head) and _crc8(head[:end]) == head[end]:
            yield position, samples + (number if head[1] & 1 else number * block_size)


def _crc8(content: bytes) -> int:
    """Polynomial x^8 + x^2 + x + 1, of a few bytes."""
    state = 0
    for byte in content:
        state = _crc8_shift(state ^ byte)
    return state


@lru_cache(maxsize=None)
def _crc8_shift(state: int) -> int:
    for _ in range(8):
        state = state << 1 ^ (0x107 if state & 0x80 else 0)
    return state


def _crc16(content: bytes) -> int:
    """Polynomial x^16 + x^15 + x^2 + 1: of every byte by itself, then of neighbours together, in log2(n) steps."""
    states = np.zeros(1 << (len(content) - 1).bit_length(), np.uint16)  # zeros in front change nothing
    states[-len(content):] = np.frombuffer(content, np.uint8)
    states = _crc16_shift(0)[states << 8]
    for level in range(len(states).bit_length() - 1):
        states = _crc16_shift(level)[states[::2]] ^ states[1::2]
    return int(states[0])


@lru_cache(maxsize=None)
def _crc16_shift(level: int) -> np.ndarray:
    """[65536] uint16: what becomes of each state when 2**level zero bytes follow."""
    if level:
        before = _crc16_shift(level - 1)
        return before[before]
    states = np.arange(2**16)
    for _ in range(8):
        states = states << 1 ^ (states >> 15) * 0x18005
    return states.astype(np.uint16)
