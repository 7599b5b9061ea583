"""Every length that a file states is a lie here; what is decoded is all of the sound, or the file is refused."""
import struct

import numpy as np
import pytest

from kws.audio.decode import decode, decode_recording
from kws.errors import AudioError

FORMAT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
SAMPLES = np.random.default_rng(0).integers(-9000, 9000, 8000).astype("<i2")


def wav(size, *behind, form=FORMAT, samples=SAMPLES):
    body = b"WAVE" + form + b"data" + struct.pack("<I", size) + samples.tobytes() + b"".join(behind)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def code_of(content):
    with pytest.raises(AudioError) as caught:
        decode(content, 16000)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    return caught.value.code


@pytest.mark.parametrize("size", [0, 0x7FFF0000, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_wav_that_was_never_finished_is_read_to_its_end(size, cut):
    content = wav(size)
    np.testing.assert_array_equal(decode(content[:len(content) - cut], 16000) * 32768, SAMPLES[:8000 - cut])


@pytest.mark.parametrize("size", [2, 8000, 15998, 15999, 16001, 16002, 2**30])
def test_a_wav_whose_samples_are_not_as_many_as_stated_is_refused(size):
    assert code_of(wav(size)) == "truncated_audio"


@pytest.mark.parametrize("behind", [b"junk", b"\r\n", b"data" + struct.pack("<I", 4) + b"abcd", b"LIST\xff\0\0\0abcd"])
def test_what_follows_the_samples_of_a_wav_must_be_chunks(behind):
    assert code_of(wav(16000, behind)) == "truncated_audio"


@pytest.mark.parametrize("behind", [[b"LIST" + struct.pack("<I", 4) + b"INFO"], [b"id3 \5\0\0\0hello\0"],
                                    [b"id3 \5\0\0\0hello"]], ids=["LIST", "padded", "not padded"])
def test_chunks_may_follow_the_samples_of_a_wav(behind):
    np.testing.assert_array_equal(decode(wav(16000, *behind), 16000) * 32768, SAMPLES)
    assert code_of(wav(0, *behind, samples=SAMPLES[:0])) == "empty_audio"


@pytest.mark.parametrize("extra", [b"PEAK\3\0\0\0abc\0", b"\xff\xfe\1\2\4\0\0\0abcd", b"fact\0\0\0\0",
                                   b"bext\0\0\0\0"])
def test_other_chunks_of_a_wav_cannot_fail_it(extra):
    np.testing.assert_array_equal(decode(wav(16000, form=extra + FORMAT), 16000), decode(wav(16000), 16000))
    floats = b"fmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32)
    content = wav(32000, form=floats + extra, samples=(SAMPLES / 32768).astype("<f4"))
    np.testing.assert_array_equal(decode(content, 16000), decode(wav(16000), 16000))


def test_big_endian_wav_is_read():
    body = b"WAVEfmt " + struct.pack(">IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + struct.pack(">I", 16000)
    content = b"RIFX" + struct.pack(">I", len(body) + 16000) + body + SAMPLES.astype(">i2").tobytes()
    np.testing.assert_array_equal(decode(content, 16000) * 32768, SAMPLES)
    assert code_of(content[:-2]) == code_of(content + b"abc") == "truncated_audio"


def stated(flac, count):
    """The FLAC file with another number of samples in its header."""
    return flac[:21] + (flac[21] >> 4 << 36 | count).to_bytes(5, "big") + flac[26:]


@pytest.mark.parametrize("subtype, channels, rate", [("PCM_16", 1, 16000), ("PCM_24", 2, 44100), ("PCM_S8", 1, 8000)])
def test_flac_of_unknown_length_is_read_to_its_end(noise, wav_bytes, subtype, channels, rate):
    clip = np.stack([noise(seed, 1.0, rate) for seed in range(channels)], axis=1)
    content = wav_bytes(clip, rate, subtype, "FLAC")
    recording = decode_recording(stated(content, 0), 16000)
    assert recording.num_samples == rate
    np.testing.assert_array_equal(recording.waveform, decode(content, 16000))
    untold = stated(content, 0)
    for wrong in (untold[:-1], untold[:-500], untold + b"x", content + b"junk", stated(content, rate - 1),
                  stated(content, rate + 1), stated(content, 10), stated(content, 2**36 - 1)):
        assert code_of(wrong) == "truncated_audio"


def page(serial, number, flags, body):
    lacing = b"\xff" * (len(body) // 255) + bytes([len(body) % 255])
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qIIIB", 0, serial, number, 0, len(lacing)) + lacing
    return head + body


def test_flac_in_ogg_is_flac(noise, wav_bytes):
    flac = wav_bytes(noise(0), format="FLAC")
    pieces = [flac[start:start + 5000] for start in range(42, len(flac), 5000)]
    pages = [page(7, 0, 2, b"\x7fFLAC\1\0\0\1" + flac[:42]),
             *(page(7, number, 4 * (number == len(pieces)), piece) for number, piece in enumerate(pieces, 1))]
    np.testing.assert_array_equal(decode(b"".join(pages), 16000), decode(flac, 16000))
    for wrong in (pages[:-1], [*pages, b"x"]):
        assert code_of(b"".join(wrong)) == "truncated_audio"
    assert code_of(b"".join([*pages[:2], *pages[3:]])) in ("truncated_audio", "unsupported_audio")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_is_whole_or_refused(noise, wav_bytes, subtype):
    content = wav_bytes(noise(0, 3.0), subtype=subtype, format="OGG")
    assert decode_recording(content, 16000).num_samples == 48000
    last, middle = content.rindex(b"OggS"), content.index(b"OggS", len(content) // 3)
    damaged = bytearray(content)
    damaged[middle + 200] ^= 255  # its page is dropped for its checksum
    for wrong in (content[:-1], content[:last], content[:last + 10], content + b"x", bytes(damaged)):
        assert code_of(wrong) == "truncated_audio"
    assert code_of(content + content) == "unsupported_audio"


def test_mp3_is_decoded_to_its_end_whatever_its_first_frame_states(noise, wav_bytes):
    content = wav_bytes(noise(0, 3.0), subtype=None, format="MP3")
    place = max(content.find(b"Xing"), content.find(b"Info"))
    count = int.from_bytes(content[place + 8:place + 12], "big")
    whole = decode(content, 16000)

    def states(number):
        return content[:place + 8] + number.to_bytes(4, "big") + content[place + 12:]
    tagged = b"ID3\4\0\0\0\1\0\0" + bytes(2**14) + content + b"TAG" + b"x" * 125
    for same in (states(count - 30), tagged):
        assert len(decode(same, 16000)) == len(whole) == 48000
    untold = content[:place] + bytes(4) + content[place + 4:]
    assert len(decode(untold, 16000)) >= 48000
    assert len(decode(content + tagged, 16000)) >= 96000 - 2 * 1152
    for wrong in (content[:-1], content[:-400], states(count + 9), content + b"garbage"):
        assert code_of(wrong) == "truncated_audio"


@pytest.mark.parametrize("content, kind", [
    (b"\x1f\x8b\x08" + bytes(99), "gzip"), (b"\0\0\0\x20ftypM4A " + bytes(99), "m4a"),
    (b"caff" + bytes(99), "CAF"),
    (b"\x1aE\xdf\xa3" + bytes(99), "WebM"), (b"RF64" + bytes(99), "RF64"), (b"PK\3\4" + bytes(99), "ZIP"),
])
def test_what_is_not_read_is_named(content, kind):
    with pytest.raises(AudioError, match=kind) as caught:
        decode(content, 16000)
    assert caught.value.code == "unsupported_audio" and "expected WAV" in str(caught.value)
