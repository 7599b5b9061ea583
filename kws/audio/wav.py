"""WAV: find the samples, even if the header is wrong."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional, Protocol

from kws.errors import AudioError

CONVERT = "convert it, for example `ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`"  # what every message about a format advises

Order = Literal["little", "big"]

# Writers that do not know the length yet (pipes) put a placeholder near 2 or 4 GiB there, or 0.
STREAMING_SIZE = 0x7F000000
_FIXED_FRAMES = {1, 3, 6, 7, 0xFFFE}  # PCM, float, A-law, mu-law, and those with an extended header


class Content(Protocol):
    """The bytes of a file: all of them, or what reads them as they are needed."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Wav:
    """A WAV file whose samples were found.

    Args:
        content: the file.
        format: its format chunk, at least 16 bytes.
        start: first byte of the samples.
        size: bytes of samples.
    """

    content: Content
    format: bytes
    start: int
    size: int

    def header(self) -> bytes:
        """Build what stands before the samples in a file of format and samples only; its sizes are true."""
        order = byte_order(self.content)
        form = self.format + b"\0" * (len(self.format) % 2)
        whole = 20 + len(form) + self.size
        if whole >= 2**32:  # RF64 (EBU Tech 3306) states sizes of eight bytes in a chunk of its own
            sizes = b"".join(size.to_bytes(8, "little") for size in (whole + 36, self.size, 0))
            return b"".join((b"RF64\xff\xff\xff\xffWAVEds64", (28).to_bytes(4, "little"), sizes, bytes(4), b"fmt ",
                             len(self.format).to_bytes(4, "little"), form, b"data\xff\xff\xff\xff"))
        return b"".join((self.content[:4], whole.to_bytes(4, order), b"WAVEfmt ", len(self.format).to_bytes(4, order),
                         form, b"data", self.size.to_bytes(4, order)))

    def bare(self) -> bytes:
        """Build a file of format and samples only, without chunks that could confuse a reader."""
        return self.header() + self.content[self.start:self.start + self.size]


def byte_order(content: Content) -> Order:
    """Return the byte order of a WAV file, as its first bytes say."""
    return "big" if content[:4] == b"RIFX" else "little"


def find_wav(content: Content, name: str) -> Optional[Wav]:
    """Find the samples of a WAV file; None for other files.

    Raises:
        AudioError: "truncated_audio" if bytes are missing or left over, "unsupported_audio" without format or samples.
    """
    if content[:4] not in (b"RIFF", b"RIFX") or content[8:12] != b"WAVE":
        return None
    order, position, form = byte_order(content), 12, b""
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


def _samples_size(content: Content, start: int, size: int, form: bytes, order: Order, name: str) -> int:
    """Check how many bytes of samples there are against what the data chunk promises."""
    there = len(content) - start
    block = int.from_bytes(form[12:14], order) if int.from_bytes(form[:2], order) in _FIXED_FRAMES else 1
    if size >= STREAMING_SIZE or size == 0 and not _only_chunks(content, start, order):
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


def is_chunk(content: bytes) -> bool:
    """Whether bytes begin as a chunk that holds no samples does."""
    kind = content[:4]
    return len(kind) == 4 and kind != b"data" and kind.isascii() and kind.decode("ascii").isprintable()


def _only_chunks(content: Content, position: int, order: Order) -> bool:
    """Whether whole chunks, none of them samples, and nothing else lie from here to the end of the file."""
    while position + 8 <= len(content):
        if not is_chunk(content[position:position + 4]):
            return False
        size = int.from_bytes(content[position + 4:position + 8], order)
        position += 8 + size + size % 2
    return position - len(content) in (0, 1)  # 1: the last chunk lacks its padding
