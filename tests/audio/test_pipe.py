"""Sound from pipes: heard while it comes, whatever the header says, with the same result as from a file."""
from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pytest
import soundfile

from kws.audio.decode import decode
from kws.audio.pipe import pipe_blocks, signed_16_bit
from kws.errors import AudioError

RATE = 16_000


class Dripping(io.BytesIO):
    """A pipe that hands over few bytes at a time."""

    def __init__(self, content, most):
        super().__init__(content)
        self._most = most

    def read1(self, size=-1):
        return super().read1(min(size, self._most) if size >= 0 else self._most)

    def read(self, size=-1):
        return super().read(min(size, self._most) if size >= 0 else self._most)


class Endless(io.RawIOBase):
    """A pipe that never ends, and counts what was taken."""

    def __init__(self, head=b""):
        self._head, self.taken = head, 0

    def read(self, size=-1):
        assert 0 <= size <= 2**20, "an endless pipe must not be read to its end"
        content, self._head = self._head[:size], self._head[size:]
        content += bytes(size - len(content))
        self.taken += size
        return content

    read1 = read


def header(data_bytes, rate=RATE, channels=1, riff_bytes=None, extra=b""):
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    return b"".join((b"RIFF", struct.pack("<I", data_bytes if riff_bytes is None else riff_bytes), b"WAVEfmt ",
                     struct.pack("<I", len(form)), form, extra, b"data", struct.pack("<I", data_bytes)))


def heard(pipe, **options):
    return np.concatenate([*pipe_blocks(pipe, RATE, **options), np.empty(0, dtype=np.float32)])


@pytest.fixture(scope="module")
def samples(noise):
    return (noise(1, 0.1) * 32767).astype("<i2")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, None])
@pytest.mark.parametrize("most", [1, 999, 2**16])
def test_a_wav_stream_is_heard_whatever_length_it_states(samples, size, most):
    content = header(2 * len(samples) if size is None else size, riff_bytes=size) + samples.tobytes()
    assert np.array_equal(heard(Dripping(content, most)), samples / np.float32(32768))


@pytest.mark.parametrize("rate, channels", [(44100, 1), (48000, 2), (8000, 1), (RATE, 3)])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_kind_of_wav_is_the_same_as_from_a_file(noise, wav_bytes, rate, channels, subtype):
    sound = np.stack([noise(seed, 0.5, rate) for seed in range(channels)], axis=1)
    content = wav_bytes(sound, rate, subtype)
    expected, found = decode(content, RATE), heard(Dripping(content, 1000))
    assert len(found) == len(expected) and np.allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("format, endian", [("WAV", "BIG"), ("WAVEX", "FILE")])
def test_big_endian_and_extended_wav_are_heard(samples, format, endian):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=format, endian=endian, subtype="PCM_16")
    assert np.array_equal(heard(Dripping(file.getvalue(), 100)), samples / np.float32(32768))


@pytest.mark.parametrize("format, subtype", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
                                             ("WAV", "IMA_ADPCM")])
def test_other_formats_are_heard_when_they_are_complete(noise, wav_bytes, format, subtype):
    content = wav_bytes(noise(2, 1.0), RATE, subtype, format)
    assert np.array_equal(heard(io.BytesIO(content)), decode(content, RATE))


@pytest.mark.parametrize("rate, channels", [(RATE, 1), (44100, 1), (48000, 2)])
def test_raw_samples_of_a_stated_rate_are_heard(noise, wav_bytes, rate, channels):
    sound = (np.stack([noise(seed, 0.5, rate) for seed in range(channels)], axis=1) * 32767).astype("<i2")
    found = heard(Dripping(sound.tobytes(), 777), raw=signed_16_bit(rate, channels))
    expected = decode(wav_bytes(sound, rate), RATE)
    assert len(found) == len(expected) and np.allclose(found, expected, atol=1e-5)


def test_an_end_within_a_sample_is_the_end(samples):
    content = header(0) + samples.tobytes() + b"\x01"
    assert len(heard(io.BytesIO(content))) == len(samples)
    assert len(heard(io.BytesIO(samples.tobytes()[:-1]), raw=signed_16_bit(RATE, 1))) == len(samples) - 1


def test_a_header_with_another_number_of_bytes_for_a_frame_is_heard_as_a_file_is(samples):
    content = bytearray(header(2 * len(samples)) + samples.tobytes())
    content[32:34] = struct.pack("<H", 3)
    assert np.array_equal(heard(io.BytesIO(content)), samples / np.float32(32768))


def test_a_promise_of_more_samples_is_told_after_what_there_is(samples):
    blocks = pipe_blocks(io.BytesIO(header(10**6) + samples.tobytes()), RATE)
    assert np.array_equal(next(blocks), samples / np.float32(32768))
    with pytest.raises(AudioError, match="promises 1,000,000") as error:
        list(blocks)
    assert error.value.code == "truncated_audio"


def test_samples_beyond_the_promise_are_heard_and_told(samples, caplog):
    content = header(1000) + samples.tobytes()
    assert np.array_equal(heard(io.BytesIO(content)), samples / np.float32(32768))
    assert [record.getMessage() for record in caplog.records] == [
        "-: more samples follow the 1,000 bytes that its header promises; they are heard as well"]


def test_chunks_around_the_samples_are_no_sound(samples, caplog):
    about = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    content = header(2 * len(samples), extra=about) + samples.tobytes() + about
    assert np.array_equal(heard(Dripping(content, 10)), samples / np.float32(32768)) and not caplog.records


@pytest.mark.parametrize("content, raw, code", [
    (b"", None, "empty_audio"), (b"", signed_16_bit(RATE, 1), "empty_audio"), (header(0), None, "empty_audio"),
    (b"hello, this is text", None, "unsupported_audio"), (header(0)[:30], None, "unsupported_audio"),
    (header(0, extra=b"junk\xff\xff\xff\x7f"), None, "too_large"),
    (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", None, "unsupported_audio"),
])
def test_what_is_no_sound_is_refused(content, raw, code):
    with pytest.raises(AudioError) as error:
        heard(io.BytesIO(content), raw=raw)
    assert error.value.code == code


def test_a_format_that_cannot_be_read_is_named():
    with pytest.raises(AudioError, match="MP4.*ffmpeg"):
        heard(io.BytesIO(b"\0\0\0\x20ftypM4A " + bytes(100)))


def test_raw_samples_without_a_rate_are_refused_at_once():
    with pytest.raises(AudioError, match="--rate 16000"):
        next(pipe_blocks(Endless(), RATE))


@pytest.mark.parametrize("head, raw", [(header(0xFFFFFFFF, 48000, 2), None), (b"", signed_16_bit(44100, 1))])
def test_an_endless_pipe_is_heard_block_by_block(head, raw):
    pipe = Endless(head)
    blocks = pipe_blocks(pipe, RATE, raw)
    for _ in range(50):
        next(blocks)
    assert pipe.taken < 50 * 2**16 + 100


def test_a_wav_file_that_is_called_raw_is_read_by_its_header(samples, caplog):
    content = header(0, RATE) + samples.tobytes()
    assert np.array_equal(heard(io.BytesIO(content), raw=signed_16_bit(44100, 1)), samples / np.float32(32768))
    assert "16,000 Hz" in caplog.text and "44,100" in caplog.text


@pytest.mark.parametrize("comes_at, told", [(44100, True), (RATE, False), (10**6, False)])
def test_samples_that_come_at_the_rate_of_another_device_are_told(comes_at, told, caplog):
    """A pipe from a file is as fast as it can be; that of a device as fast as the device."""
    now, pipe = [0.0], Endless()
    blocks = pipe_blocks(pipe, RATE, signed_16_bit(RATE, 1), clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(30 * comes_at // 2**15):
            next(blocks)
            now[0] += 2**15 / comes_at
    assert bool(caplog.records) == told and ("44,100" in caplog.text) == told
