"""What the bytes of a file hold: all of it is found, or it is refused; no length that a header states is believed.

libsndfile decodes as much as a header promises and says nothing of the rest. So containers are walked here, from the
first byte to the last, and are given to it in a form whose length is true.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Iterator, Literal, NamedTuple, Optional

import numpy as np

from kws.errors import AudioError

Order = Literal["little", "big"]

EXPECTED = "expected WAV, FLAC, Ogg (Vorbis, Opus or FLAC) or MP3"
_CONVERT = "convert it, for example `ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`"
_FOREIGN = (  # what people send instead: offset, first bytes, name
    (0, b"\x1f\x8b", "gzip"), (0, b"PK\3\4", "ZIP"), (4, b"ftyp", "MP4 (.m4a)"), (0, b"\x1aE\xdf\xa3", "WebM"),
    (0, b"FORM", "AIFF"), (0, b".snd", "AU"), (0, b"caff", "CAF"), (0, b"riff", "Wave64"), (0, b"RF64", "RF64"),
    (0, b"BW64", "BW64"), (0, b"#!AMR", "AMR"), (0, b"0&\xb2u", "WMA"), (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
)

# Writers that do not know the length yet (pipes) put a placeholder near 2 or 4 GiB there, or 0.
_STREAMING_SIZE = 0x7F000000
_FIXED_FRAMES = {1, 3, 6, 7, 0xFFFE}  # PCM, float, A-law, mu-law, and those with an extended header

_LARGEST_FLAC_FRAME = 2**22  # bytes: 65,535 samples, 8 channels, 32 bit, and some
_FLAC_CANDIDATES = 32  # places that look like the last frame; in noise one in 2**23 bytes does

_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by MPEG version
_MP3_KBITS = {  # by (MPEG-1, layer), of bit rate indices 1 to 14
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class Wav:
    """A WAV file whose samples were found.

    Args:
        content: the file.
        format: its format chunk, at least 16 bytes.
        start: first byte of the samples.
        size: bytes of samples.
    """

    content: bytes
    format: bytes
    start: int
    size: int

    def bare(self) -> bytes:
        """Build the file of format and samples alone: what other chunks hold can neither mislead nor fail a reader."""
        order = _order(self.content)
        body = b"".join(part for name, part in ((b"fmt ", self.format),
                                                (b"data", self.content[self.start:self.start + self.size]))
                        for part in (name, len(part).to_bytes(4, order), part, b"\0" * (len(part) % 2)))
        return self.content[:4] + (len(body) + 4).to_bytes(4, order) + b"WAVE" + body


def _order(content: bytes) -> Order:
    return "big" if content[:4] == b"RIFX" else "little"


def find_wav(content: bytes, name: str) -> Optional[Wav]:
    """Find the samples of a WAV file; None for other files.

    Raises:
        AudioError: "truncated_audio" if bytes are missing or left over, "unsupported_audio" without format or samples.
    """
    if content[:4] not in (b"RIFF", b"RIFX") or content[8:12] != b"WAVE":
        return None
    order, position, form = _order(content), 12, b""
    while position + 8 <= len(content):
        kind, size = content[position:position + 4], int.from_bytes(content[position + 4:position + 8], order)
        position += 8
        if kind == b"data":
            if len(form) < 16:
                raise AudioError(f"{name}: a WAV file whose format chunk has {len(form)} bytes; expected 16 or more")
            return Wav(content, form, position, _samples_size(content, position, size, form, order, name))
        if kind == b"fmt ":
            form = form or content[position:position + size]
        position += size + size % 2
    raise AudioError(f"{name}: a WAV file without samples; expected a data chunk. Is the file truncated?")


def _samples_size(content: bytes, start: int, size: int, form: bytes, order: Order, name: str) -> int:
    """Check how many bytes of samples there are against what the data chunk promises."""
    there = len(content) - start
    block = int.from_bytes(form[12:14], order) if int.from_bytes(form[:2], order) in _FIXED_FRAMES else 1
    if size >= _STREAMING_SIZE or size == 0 and not _only_chunks(content, start, order):
        return there - there % (block or 1)  # the writer was stopped anywhere
    if size > there:
        raise AudioError(f"{name}: {there:,} bytes of samples; its header promises {size:,}. Is the file truncated?",
                         "truncated_audio")
    if not any(_only_chunks(content, start + size + padding, order) for padding in {size % 2, 0}):
        raise AudioError(f"{name}: its header promises {size:,} bytes of samples; the {there - size:,} bytes behind "
                         "them are no chunks. Does it count samples instead of bytes?", "truncated_audio")
    if block and size % block:
        raise AudioError(f"{name}: {size:,} bytes of samples; expected a multiple of {block}, the bytes of a frame",
                         "truncated_audio")
    return size


def _only_chunks(content: bytes, position: int, order: Order) -> bool:
    """Whether whole chunks, none of them samples, and nothing else lie from here to the end of the file."""
    while position + 8 <= len(content):
        kind = content[position:position + 4]
        if kind == b"data" or not (kind.isascii() and kind.decode("ascii").isprintable()):
            return False
        size = int.from_bytes(content[position + 4:position + 8], order)
        position += 8 + size + size % 2
    return position - len(content) in (0, 1)  # 1: the last chunk lacks its padding


def complete(content: bytes, name: str) -> bytes:
    """Check that a FLAC, Ogg or MP3 file is whole, and return it in a form that libsndfile reads to its end.

    Raises:
        AudioError: "truncated_audio" if bytes are missing or left over, "unsupported_audio" for other files.
    """
    content = _without_tags(content)
    if content[:4] == b"fLaC":
        return _complete_flac(content, name)
    if content[:4] == b"OggS":
        return _complete_ogg(content, name)
    if _mp3_frame(content, _skip_zeros(content, 0)):
        return _complete_mp3(content, name)
    for offset, magic, kind in _FOREIGN:
        if content.startswith(magic, offset):
            raise AudioError(f"{name}: {kind}; {EXPECTED}; "
                             f"{'unpack it first' if kind in ('gzip', 'ZIP') else _CONVERT}")
    raise AudioError(f"{name}: not readable as audio; {EXPECTED}")


def _without_tags(content: bytes) -> bytes:
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


def _complete_ogg(content: bytes, name: str) -> bytes:
    """Walk the pages (RFC 3533); FLAC is taken out of them."""
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
                         f"{_CONVERT}", "truncated_audio")
    if position > len(content) or not flags[-1] & 4 or lacing[-1:] == b"\xff":
        raise AudioError(f"{name}: its last page of Ogg is cut off or not marked as the last. Is the file truncated?",
                         "truncated_audio")
    if re.search(rb"[^\2\6][\2\6]", flags):  # a stream begins after another one did
        raise AudioError(f"{name}: several Ogg recordings one after the other; expected one; {_CONVERT}")
    if bodies[0].startswith(b"\x7fFLAC"):
        return _complete_flac(b"".join(bodies)[9:], name)  # 9 bytes in front of what a FLAC file begins with
    return content


def _complete_flac(content: bytes, name: str) -> bytes:
    """Find the last frame (RFC 9639), which says how many samples there are, and state that in the header."""
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
        state ^= byte
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


def _complete_mp3(content: bytes, name: str) -> bytes:
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
                             f"{_CONVERT}", "truncated_audio" if count > 1 else "unsupported_audio")
    if position > len(content):
        raise AudioError(f"{name}: its last frame of MP3 is cut off. Is the file truncated?", "truncated_audio")


def _info_frame(header: bytes, frame: _Mp3Frame, count: int) -> bytes:
    """Build the frame without sound that says how many frames follow: as the given one, but large enough for it."""
    header = bytes([255, header[1] | 1, 0x90 | header[2] & 0x0C, header[3]])  # no checksum, bit rate 9, no padding
    built = _mp3_frame(header, 0)
    assert built is not None
    content = header + bytes(frame.tag - 4) + b"Info" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return content + bytes(built.length - len(content))
