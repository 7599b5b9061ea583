"""MP3: every frame (ISO 11172-3, 13818-3, and "2.5"), and the tags around them."""
from __future__ import annotations

import re
from typing import Iterator, NamedTuple, Optional

from kws.audio.wav import CONVERT
from kws.errors import AudioError

_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by MPEG version
_MP3_KBITS = {  # by (MPEG-1, layer), of bit rate indices 1 to 14
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def is_mp3(content: bytes) -> bool:
    """Whether a file begins as MPEG audio does; titles in front are cut off before."""
    return _mp3_frame(content, _skip_zeros(content, 0)) is not None


class _Mp3Frame(NamedTuple):
    """kind: what all frames of a file share (version, layer, rate); length: bytes; tag: where a Xing header is."""

    kind: tuple[int, int, int]
    length: int
    tag: int


def _mp3_frame(content: bytes, position: int) -> Optional[_Mp3Frame]:
    """Read a frame header of MPEG audio (ISO 11172-3, 13818-3, and "2.5"); None if there is none."""
    if position + 4 > len(content) or content[position] != 255 or content[position + 1] < 224:
        return None
    _, second, third, fourth = content[position:position + 4]
    version, layer, rate, kbits = second >> 3 & 3, 4 - (second >> 1 & 3), third >> 2 & 3, third >> 4
    if version == 1 or layer == 4 or rate == 3 or kbits in (0, 15):
        return None
    bits, hertz, padding = 1000 * _MP3_KBITS[version == 3, layer][kbits - 1], _MP3_RATES[version][rate], third >> 1 & 1
    words = 12 if layer == 1 else 72 if layer == 3 and version < 3 else 144  # samples of a frame / 32 or 8
    length = (words * bits // hertz + padding) * (4 if layer == 1 else 1)
    side = (32, 17) if version == 3 else (17, 9)
    return _Mp3Frame((version, layer, rate), length, 4 + side[fourth >= 192])


def complete_mp3(content: bytes, name: str) -> bytes:
    """Walk the frames, and state their number where readers look for it, in a first frame without sound."""
    frames = list(_mp3_frames(content, name))
    (first, frame), count = frames[0], len(frames)
    tag = first + frame.tag
    if content[tag:tag + 4] in (b"Xing", b"Info") and content[tag + 7] & 1:
        place = tag + 8
    elif content.startswith(b"VBRI", first + 36):
        place = first + 50
    else:
        stated = _info_frame(content[first:first + 4], frame, count) if frame.kind[1] == 3 else b""
        return stated + content[first:]
    promised, count = int.from_bytes(content[place:place + 4], "big"), count - 1
    if promised > count + 1:  # some writers count the first frame
        raise AudioError(f"{name}: {count:,} frames of MP3; its header promises {promised:,}. Is the file truncated?",
                         "truncated_audio")
    return content[first:place] + count.to_bytes(4, "big") + content[place + 4:]


def _mp3_frames(content: bytes, name: str) -> Iterator[tuple[int, _Mp3Frame]]:
    """Yield where frames begin; between them may be tags, of files that were joined, and zeros."""
    position, count, kind = 0, 0, None
    while position < len(content):
        frame = _mp3_frame(content, position)
        if frame and kind in (None, frame.kind):
            yield position, frame
            position, count, kind = position + frame.length, count + 1, frame.kind
        elif content.startswith(b"ID3", position):
            position = _after_id3(content, position)
        elif content.startswith(b"TAG", position):
            position += 128
        elif content[position] == 0:
            position = _skip_zeros(content, position)
        else:
            raise AudioError(f"{name}: {len(content) - position:,} bytes after {count:,} frames of MP3 are no frame; "
                             f"{CONVERT}", "truncated_audio" if count > 1 else "unsupported_audio")
    if position > len(content):
        raise AudioError(f"{name}: its last frame of MP3 is cut off. Is the file truncated?", "truncated_audio")


def _info_frame(header: bytes, frame: _Mp3Frame, count: int) -> bytes:
    """Build the frame without sound that says how many frames follow: as the given one, but large enough for it."""
    header = bytes([255, header[1] | 1, 0x90 | header[2] & 0x0C, header[3]])  # no checksum, bit rate 9, no padding
    built = _mp3_frame(header, 0)
    assert built is not None
    content = header + bytes(frame.tag - 4) + b"Info" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return content + bytes(built.length - len(content))


def without_tags(content: bytes) -> bytes:
    """Cut titles and pictures off: ID3v2 in front, APE and ID3v1 behind."""
    start, end = 0, len(content)
    while content.startswith(b"ID3", start):
        start = _after_id3(content, start)
    if content.startswith(b"TAG", max(end - 128, start)):
        end -= 128
    if content.startswith(b"APETAGEX", max(end - 32, start)):  # its footer; the size is without the header
        end -= int.from_bytes(content[end - 20:end - 16], "little") + (32 if content[end - 9] & 128 else 0)
    return content[start:max(end, start)] if start or end < len(content) else content


def _after_id3(content: bytes, position: int) -> int:
    """Return where an ID3v2 tag ends: ten bytes, four times seven bits of size, perhaps ten more behind."""
    size = sum((byte & 127) << shift for byte, shift in zip(content[position + 6:position + 10], (21, 14, 7, 0)))
    return position + 10 + size + (10 if content[position + 5:position + 6] >= b"\x10" else 0)


def _skip_zeros(content: bytes, position: int) -> int:
    return re.compile(rb"\0*").match(content, position).end()  # type: ignore[union-attr]  # always matches
