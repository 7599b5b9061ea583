"""Sound from a pipe, heard while it comes: WAV, raw samples, or a whole file of another format.

What arecord, ffmpeg and others write into a pipe is WAV whose length is not known yet. It is never read to its end
first, and memory use is the same after days.
"""
from __future__ import annotations

import io
import logging
import time
from dataclasses import dataclass
from typing import BinaryIO, Callable, Iterator, Optional

import numpy as np
import soundfile

from kws.audio.blocks import recording_blocks
from kws.audio.conversion import Converter
from kws.audio.decode import DEFAULT_LIMITS, check_scale
from kws.audio.formats import EXPECTED, complete
from kws.audio.mp3 import is_mp3
from kws.audio.rate_watch import STANDARD_RATES, RateWatch
from kws.audio.wav import STREAMING_SIZE, Wav, byte_order, is_chunk
from kws.errors import AudioError
from kws.model.window import FULL_SCALE

MAX_WHOLE_BYTES = 2**28  # of a file in another format than WAV, which is read to its end first
RATES, CHANNELS = range(1000, 768_001), range(1, 65)  # Hz, and how many, of samples without a header
_READ_BYTES = 2**16
_MAX_CHUNK_BYTES = 2**20  # of a WAV file, before its samples
_MAX_FRAME_BYTES = 2**10
_PLAIN = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}  # bytes
_FLOATS = ("FLOAT", "DOUBLE")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawFormat:
    """How to read samples without a header.

    Args:
        rate: Hz.
        channels: interleaved.
        subtype: of a sample, as soundfile calls it.
        endian: "LITTLE" or "BIG".
        frame_bytes: of one sample of each channel.
    """

    rate: int
    channels: int = 1
    subtype: str = "PCM_16"
    endian: str = "LITTLE"
    frame_bytes: int = 2

    def decode(self, content: bytes) -> np.ndarray:
        """Decode whole frames to [T, channels] float32."""
        if self.subtype == "PCM_16":  # in a tenth of the time, to the same numbers
            samples = np.frombuffer(content, "<i2" if self.endian == "LITTLE" else ">i2").reshape(-1, self.channels)
            return samples.astype(np.float32) / FULL_SCALE
        samples, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True, samplerate=self.rate,
                                    channels=self.channels, format="RAW", subtype=self.subtype, endian=self.endian)
        return samples


def signed_16_bit(rate: int, channels: int) -> RawFormat:
    """Describe raw samples as arecord -f S16_LE writes them."""
    return RawFormat(rate, channels, frame_bytes=2 * channels)


def pipe_blocks(pipe: BinaryIO, sample_rate: int, raw: Optional[RawFormat] = None, name: str = "-",
                clock: Callable[[], float] = time.monotonic) -> Iterator[np.ndarray]:
    """Yield the sound of a pipe as it comes.

    Args:
        pipe: with `read1`, as sys.stdin.buffer.
        sample_rate: Hz, wanted.
        raw: of samples without a header; the header of a WAV file counts for more.
        name: what to call it in messages.
        clock: in seconds; a stated rate is compared with what comes in a second.
    Returns:
        [T] float32 each, mono, at `sample_rate`.
    Raises:
        AudioError: as `decode` does; for what can only be told at the end, after the blocks before it.
    """
    head = _read_exactly(pipe, 12)
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        yield from _wav_blocks(pipe, head, sample_rate, raw, name, clock)
    elif raw:
        yield from _convert(_pieces(pipe, head), raw, sample_rate, name, clock)
    else:
        yield from recording_blocks(_read_whole(pipe, head, name), sample_rate, DEFAULT_LIMITS, name)


def _wav_blocks(pipe: BinaryIO, head: bytes, sample_rate: int, raw: Optional[RawFormat], name: str,
                clock: Callable[[], float]) -> Iterator[np.ndarray]:
    form, size = _find_samples(pipe, head, name)
    try:
        with soundfile.SoundFile(io.BytesIO(Wav(head, form, 0, 0).bare())) as file:
            found = RawFormat(file.samplerate, file.channels, file.subtype, byte_order(head).upper(),
                              file.channels * _PLAIN.get(file.subtype, 0))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: not readable as audio ({error.error_string.strip()}); {EXPECTED}") from None
    if raw and raw.rate != found.rate:
        logger.warning("%s: a WAV file of %s Hz, not raw samples of %s; its header counts", name, f"{found.rate:,}",
                       f"{raw.rate:,}")
    if 0 < found.frame_bytes <= _MAX_FRAME_BYTES:
        yield from _convert(_samples_of_wav(pipe, size, head, name), found, sample_rate, name, clock)
        return
    header = head + b"fmt " + len(form).to_bytes(4, byte_order(head)) + form + b"\0" * (len(form) % 2)
    header += b"data" + size.to_bytes(4, byte_order(head))
    yield from recording_blocks(_read_whole(pipe, header, name), sample_rate, DEFAULT_LIMITS, name)


def _find_samples(pipe: BinaryIO, head: bytes, name: str) -> tuple[bytes, int]:
    """Read up to the samples of a WAV file; return its format chunk, and how many bytes of samples it promises."""
    form = b""
    while len(header := _read_exactly(pipe, 8)) == 8:
        kind, size = header[:4], int.from_bytes(header[4:], byte_order(head))
        if kind == b"data":
            if len(form) < 16:
                raise AudioError(f"{name}: a WAV file whose format chunk has {len(form)} bytes; expected 16 or more")
            return form, size
        if size > _MAX_CHUNK_BYTES:
            raise AudioError(f"{name}: a WAV file with {size:,} bytes in front of its samples; the limit is "
                             f"{_MAX_CHUNK_BYTES:,}", "too_large")
        content = _read_exactly(pipe, size + size % 2)
        form = form or (content[:size] if kind == b"fmt " else b"")
    raise AudioError(f"{name}: a WAV file without samples; expected a data chunk. Is the file truncated?")


def _samples_of_wav(pipe: BinaryIO, size: int, head: bytes, name: str) -> Iterator[bytes]:
    """Yield the bytes of samples as they come: as many as are promised, or all if no number of them is."""
    if size == 0 or size >= STREAMING_SIZE:
        yield from _pieces(pipe, b"")
        return
    left = size
    while left and (piece := pipe.read1(min(left, _READ_BYTES))):  # type: ignore[attr-defined]
        left -= len(piece)
        yield piece
    if left:
        raise AudioError(f"{name}: {size - left:,} bytes of samples; its header promises {size:,}. Is it truncated?",
                         "truncated_audio")
    behind = _read_exactly(pipe, size % 2 + 8)
    if behind and not any(is_chunk(behind[padding:padding + 8]) for padding in {0, size % 2}):
        logger.warning("%s: more samples follow the %s bytes that its header promises; they are heard as well", name,
                       f"{size:,}")
        yield from _pieces(pipe, behind)
    for _ in _pieces(pipe, b""):  # what describes the sound; the writer must not be stopped by a closed pipe
        pass


def _convert(pieces: Iterator[bytes], form: RawFormat, sample_rate: int, name: str,
             clock: Callable[[], float]) -> Iterator[np.ndarray]:
    """Decode pieces of any number of bytes; part of a frame at the end is no sample."""
    converter, watch, pending, heard = Converter(form.rate, sample_rate), RateWatch(form.rate), b"", False
    for piece in pieces:
        pending += piece
        whole = len(pending) - len(pending) % form.frame_bytes
        other = watch.add(whole // form.frame_bytes, clock())
        if other in STANDARD_RATES:  # else it is read at the speed of something else
            logger.warning("%s: samples come at %s a second, as from a device of that rate, but %s Hz is stated; words "
                           "will not be recognised", name, f"{other:,}", f"{form.rate:,}")
        if whole:
            samples = form.decode(pending[:whole])
            if form.subtype in _FLOATS:
                check_scale(samples, name)
            yield converter.convert(samples)
            pending, heard = pending[whole:], True
    if not heard:
        raise AudioError(f"{name}: 0 samples; expected at least 1. Did what writes it fail?", "empty_audio")
    if pending:
        logger.info("%s: ends within a sample; its last %d bytes are left out", name, len(pending))
    yield converter.finish()


def _pieces(pipe: BinaryIO, first: bytes) -> Iterator[bytes]:
    """Yield bytes as they come, without waiting for a whole block."""
    if first:
        yield first
    while piece := pipe.read1(_READ_BYTES):  # type: ignore[attr-defined]
        yield piece


def _read_exactly(pipe: BinaryIO, count: int) -> bytes:
    """Read so many bytes, fewer only at the end."""
    content = b""
    while len(content) < count and (piece := pipe.read(count - len(content))):
        content += piece
    return content


def _read_whole(pipe: BinaryIO, head: bytes, name: str) -> bytes:
    """Read a file of a known format to its end."""
    if head and not (head.startswith((b"RIFF", b"RIFX", b"fLaC", b"OggS", b"ID3")) or is_mp3(head)):
        try:
            complete(head, name)
        except AudioError as error:  # it knows formats that others send
            raise AudioError(f"{error}. Raw samples need --rate, as in --rate 16000") from None
    content = head + pipe.read(MAX_WHOLE_BYTES + 1 - len(head))
    if len(content) > MAX_WHOLE_BYTES:
        raise AudioError(f"{name}: more than {MAX_WHOLE_BYTES:,} bytes, the limit of all but WAV from a pipe; convert "
                         "it on the way: ffmpeg -i - -f wav - | kws listen -", "too_large")
    return content
