import io
import os
import random
import struct

import numpy as np
import pytest
import soundfile

from kws.audio.decode import AUDIO_SUFFIXES, Limits, decode, decode_recording, read_bytes
from kws.errors import AudioError


def refused(source, **settings):
    with pytest.raises(AudioError) as caught:
        decode(source, 16000, **settings)
    assert "\n" not in str(caught.value) and " at 0x" not in str(caught.value)
    return caught.value.code


def tone_at(waveform, sample_rate):
    """Frequency of the strongest bin, in Hz."""
    return np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * sample_rate / len(waveform)


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks, size=None):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))


@pytest.mark.parametrize("source_rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_any_rate_becomes_the_wanted_one(tone, wav_bytes, source_rate, sample_rate):
    waveform = decode(wav_bytes(tone(1000.0, 1.0, source_rate), source_rate), sample_rate)
    assert waveform.dtype == np.float32 and abs(len(waveform) - sample_rate) <= 1
    assert tone_at(waveform, sample_rate) == pytest.approx(1000.0, abs=2.0)
    middle = waveform[len(waveform) // 4:-len(waveform) // 4]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.02)


def test_what_the_wanted_rate_cannot_hold_does_not_fold_back(tone, wav_bytes):
    low, high = tone(1000.0, 1.0, 44100, amplitude=0.3), tone(10000.0, 1.0, 44100)
    recording = decode_recording(wav_bytes(low + high, 44100, "FLOAT"), 16000)
    expected = tone(1000.0, amplitude=0.3)
    np.testing.assert_allclose(recording.waveform[1000:-1000], expected[1000:-1000], atol=0.001)
    assert recording.losses.resampling == pytest.approx(0.5 ** 2 / (0.3 ** 2 + 0.5 ** 2), abs=0.001)


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_are_averaged(tone, wav_bytes, channels):
    many = np.stack([tone(1000.0, amplitude=0.1 * (channel + 1)) for channel in range(channels)], axis=1)
    recording = decode_recording(wav_bytes(many), 16000)
    np.testing.assert_allclose(recording.waveform, many.mean(axis=1), atol=2 / 32768)
    assert (recording.channels, recording.num_samples, recording.sample_rate) == (channels, 16000, 16000)


@pytest.mark.parametrize("subtype, tolerance", [
    ("PCM_U8", 1 / 128), ("PCM_16", 1 / 32768), ("PCM_24", 2.0 ** -23), ("PCM_32", 1e-7), ("FLOAT", 1e-9),
    ("DOUBLE", 1e-7), ("ALAW", 0.02), ("ULAW", 0.02), ("IMA_ADPCM", 0.5), ("MS_ADPCM", 0.5), ("GSM610", 0.5),
])
def test_every_sample_format(tone, wav_bytes, subtype, tolerance):
    clip = tone(500.0)
    waveform = decode(wav_bytes(clip, subtype=subtype), 16000)
    assert waveform.dtype == np.float32 and len(clip) <= len(waveform) < len(clip) + 1024
    np.testing.assert_allclose(waveform[:16000], clip, atol=tolerance)  # 0.5: codecs that start slowly
    np.testing.assert_allclose(waveform[200:15800], clip[200:15800], atol=min(tolerance, 0.2))


@pytest.mark.parametrize("file_format, subtype", [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"),
                                                  ("OGG", "OPUS"), ("MP3", None), ("WAVEX", "PCM_16")])
def test_every_file_format(tone, wav_bytes, file_format, subtype):
    waveform = decode(wav_bytes(tone(500.0), subtype=subtype, format=file_format), 16000)
    assert len(waveform) == pytest.approx(16000, abs=2400) and np.abs(waveform).max() <= 1.0
    assert tone_at(waveform, 16000) == pytest.approx(500.0, abs=5.0)


@pytest.mark.parametrize("file_format", ["AIFF", "AU", "CAF", "W64", "RF64"])
def test_formats_that_nobody_asked_for_are_refused(tone, wav_bytes, file_format):
    assert refused(wav_bytes(tone(500.0), format=file_format)) == "unsupported_audio"


def test_16_bit_samples_are_exact(wav_bytes):
    samples = np.arange(-32768, 32768, dtype=np.int16)
    np.testing.assert_array_equal(decode(wav_bytes(samples), 16000) * 32768, samples)


def test_bytes_bytearray_path_and_string_are_alike(tmp_path, noise, wav_bytes):
    content = wav_bytes(noise(0))
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (bytearray(content), path, str(path)):
        np.testing.assert_array_equal(decode(source, 16000), decode(content, 16000))


def test_loud_floats_are_clipped(tone, wav_bytes):
    waveform = decode(wav_bytes(np.array([0.5, 3.0, -7.0], np.float32), subtype="FLOAT"), 16000)
    assert waveform.tolist() == [0.5, 1.0, -1.0]
    overshoot = decode_recording(wav_bytes(tone(500.0, amplitude=1.5), subtype="FLOAT"), 16000)
    np.testing.assert_array_equal(overshoot.waveform, np.clip(tone(500.0, amplitude=1.5), -1, 1))
    assert 0.2 < overshoot.losses.clipping < 0.4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sample_rate", [16000, 8000])
def test_values_that_are_no_numbers_are_refused(noise, wav_bytes, value, sample_rate):
    clip = noise(0)
    clip[100] = value
    assert refused(wav_bytes(clip, sample_rate, subtype="FLOAT")) == "bad_samples"


@pytest.mark.parametrize("content, code", [
    (b"", "empty_audio"),
    (b"RIFF", "unsupported_audio"),
    (b"hello, I am a text file that is called a.wav\n" * 20, "unsupported_audio"),
    (b"\0" * 4000, "unsupported_audio"),
    (b"<!DOCTYPE html><html></html>" * 50, "unsupported_audio"),
    (riff(FORMAT), "unsupported_audio"),
    (riff(FORMAT, chunk(b"data", b"")), "empty_audio"),
    (riff(chunk(b"data", b"\0\0" * 100)), "unsupported_audio"),
    (riff(FORMAT, b"data" + struct.pack("<I", 20000) + b"\0\0" * 100), "truncated_audio"),
    (riff(FORMAT, chunk(b"LIST", b"odd"), b"data" + struct.pack("<I", 202) + b"\0\0" * 100), "truncated_audio"),
], ids=["nothing", "four bytes", "text", "zeros", "html", "header only", "no samples", "no format", "cut",
        "cut behind another chunk"])
def test_what_is_not_audio_is_refused(content, code):
    assert refused(content) == code


@pytest.mark.parametrize("cut", [1, 2, 1000, 31999])
def test_a_cut_wav_is_refused(noise, wav_bytes, cut):
    assert refused(wav_bytes(noise(0))[:-cut]) in ("truncated_audio", "empty_audio")


def test_a_cut_flac_is_refused(noise, wav_bytes):
    content = wav_bytes(noise(0), format="FLAC")
    assert {refused(content[:len(content) * share // 10]) for share in range(1, 10)} == {"truncated_audio"}


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
def test_a_stream_that_does_not_know_its_length_is_read_to_the_end(size):
    content = riff(FORMAT, b"data" + struct.pack("<I", size) + b"\x01\x00" * 100, size=0xFFFFFFFF)
    assert decode(content, 16000).tolist() == [1 / 32768] * 100


def test_chunks_around_the_samples_do_not_sound(noise):
    samples = (noise(0, 0.1) * 32767).astype("<i2")
    content = riff(chunk(b"JUNK", b"odd"), FORMAT, chunk(b"LIST", b"x" * 26), chunk(b"data", samples.tobytes()),
                   chunk(b"id3 ", b"tag"))
    np.testing.assert_array_equal(decode(content, 16000) * 32768, samples)


def test_limits(noise, wav_bytes):
    content = wav_bytes(noise(0, 1.0))
    assert len(decode(content, 16000, Limits(max_bytes=len(content), max_seconds=1.0, max_channels=1))) == 16000
    assert refused(content, limits=Limits(max_bytes=len(content) - 1)) == "too_large"
    assert refused(content, limits=Limits(max_seconds=0.99)) == "too_long"
    assert refused(wav_bytes(np.zeros((100, 3))), limits=Limits(max_channels=2)) == "unsupported_audio"
    assert refused(wav_bytes(np.zeros((100, 3))), limits=Limits(max_values=299)) == "too_large"


def test_a_small_file_of_much_silence_is_refused_before_it_is_unpacked(wav_bytes):
    bomb = wav_bytes(np.zeros((2**20, 8), np.int16), 655350, format="FLAC")
    assert len(bomb) < 2**17 and len(decode(bomb, 16000)) > 0
    assert refused(bomb, limits=Limits(max_values=2**22)) == "too_large"


@pytest.mark.parametrize("rate", [0, 1, 3, 2**20, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("num_samples", [1, 2, 4000])
def test_absurd_rates_are_answered(rate, num_samples):
    content = bytearray(riff(FORMAT, chunk(b"data", b"\x01\x00" * num_samples)))
    content[24:28] = struct.pack("<I", rate)
    valid_or_refused(content)


def valid_or_refused(content):
    """Decode; True if it went well."""
    try:
        waveform = decode(content, 16000, Limits(max_seconds=5.0))
    except AudioError as error:
        assert error.code and str(error) and "\n" not in str(error) and " at 0x" not in str(error)
        return False
    assert waveform.dtype == np.float32 and waveform.ndim == 1 and 1 <= len(waveform) <= 5 * 16000 + 1
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1.0
    return True


@pytest.mark.parametrize("file_format, subtype", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"),
                                                  ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_damaged_files_are_refused_or_valid(noise, wav_bytes, file_format, subtype):
    content = wav_bytes(noise(0, 0.1), subtype=subtype, format=file_format)
    draw = random.Random(0)
    survivors = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 2, 8))):
            place = draw.randrange(draw.choice((64, len(damaged))))
            damaged[place % len(damaged)] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        if draw.random() < 0.2:
            del damaged[draw.randrange(len(damaged)):]
        survivors += valid_or_refused(bytes(damaged))
    assert 0 < survivors < 150


def test_paths_that_cannot_be_read(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dangling.wav").symlink_to("nowhere")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert refused(tmp_path / "missing.wav") == "not_found"
    assert refused(tmp_path / "dangling.wav") == "not_found"
    assert refused(tmp_path / "folder.wav") == "unreadable"
    assert refused(tmp_path / "loop.wav") == "unreadable"
    assert refused(tmp_path / ("a" * 300)) == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path, noise, wav_bytes):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(0)))
    (tmp_path / "a.wav").chmod(0)
    assert refused(tmp_path / "a.wav") == "unreadable"


def test_messages_name_the_clip(tmp_path):
    for name, source in (("upload", b""), (str(tmp_path / "x.wav"), tmp_path / "x.wav")):
        with pytest.raises(AudioError, match=f"^{name}: "):
            decode(source, 16000)
    with pytest.raises(AudioError, match="^yes/a.wav: "):
        decode(b"", 16000, name="yes/a.wav")


@pytest.mark.parametrize("num_bytes", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**20])
def test_files_are_read_whole_up_to_the_limit(tmp_path, num_bytes):
    path = tmp_path / "a.wav"
    path.write_bytes(os.urandom(num_bytes))
    assert read_bytes(path, "a") == path.read_bytes()
    limited = read_bytes(path, "a", Limits(max_bytes=300_000))
    assert len(limited) == min(num_bytes, 300_001)


def test_suffixes_are_those_of_the_formats():
    assert AUDIO_SUFFIXES == {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"}


@pytest.mark.parametrize("num_samples", [1, 2, 159, 16000, 40001])
def test_plain_wav_is_read_as_libsndfile_reads_it(num_samples):
    samples = np.random.default_rng(num_samples).integers(-32768, 32768, num_samples).astype(np.int16)
    samples[0] = -32768
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="PCM_16")
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    found = decode(file.getvalue(), 16000)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32 and found.flags.c_contiguous


def test_plain_wav_obeys_the_limits():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16000, dtype=np.int16), 16000, format="WAV")
    with pytest.raises(AudioError) as caught:
        decode(file.getvalue(), 16000, Limits(max_seconds=0.5))
    assert caught.value.code == "too_long"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError) as caught:
        decode(tmp_path / "pipe.wav", 16000)
    assert caught.value.code == "unreadable"


def test_what_cannot_be_a_path_is_not_found():
    with pytest.raises(AudioError) as caught:
        decode("nul\0.wav", 16000)
    assert caught.value.code == "not_found"


def opposite(waveform, common=0.0):
    return np.stack([waveform + common, -waveform + common], axis=1)


def test_channels_that_cancel_each_other_are_not_averaged(tone, wav_bytes):
    speech = tone(500.0, amplitude=0.25)
    for many in (opposite(speech), opposite(speech, 0.1), np.stack([speech, -0.8 * speech, 0 * speech], axis=1)):
        recording = decode_recording(wav_bytes(many, subtype="FLOAT"), 16000)
        np.testing.assert_allclose(recording.waveform, many[:, recording.losses.channel], atol=1e-6)
        assert recording.losses.channel in (0, 1) and recording.losses.downmix > 0.9


def test_unrelated_one_sided_and_equal_channels_are_averaged(noise, wav_bytes):
    left = noise(0)
    for right in (noise(1), 0 * left, left, 0.5 * left):
        recording = decode_recording(wav_bytes(np.stack([left, right], axis=1), subtype="FLOAT"), 16000)
        np.testing.assert_allclose(recording.waveform, (left + right) / 2, atol=1e-6)
        assert recording.losses.channel is None and recording.losses.downmix < 0.1


@pytest.mark.parametrize("rate, hertz", [(44100, 15000.0), (48000, 20000.0), (96000, 40000.0)])
def test_what_holds_nothing_that_the_model_hears_is_refused(tone, noise, wav_bytes, rate, hertz):
    assert refused(wav_bytes(tone(hertz, 1.0, rate), rate)) == "lost_sound"
    assert decode_recording(wav_bytes(np.zeros(rate), rate), 16000).losses.resampling == 0.0
    assert len(decode(wav_bytes(noise(0, 1.0, rate), rate), 16000)) == 16000


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("scale, code", [(127, "bad_samples"), (32767, "bad_samples"), (2.0**31, "bad_samples"),
                                         (1e30, "bad_samples"), (100, "bad_samples"), (1.0, None), (2.0, None)])
@pytest.mark.parametrize("offset", [0.0, 0.4])
def test_floats_at_the_scale_of_integers_are_refused(tone, wav_bytes, subtype, scale, code, offset):
    content = wav_bytes(scale * (tone(500.0, amplitude=0.5).astype(np.float64) + offset), subtype=subtype)
    assert (refused(content) if code else valid_or_refused(content)) == (code or True)


def test_what_clipping_leaves_nothing_of_is_refused(tone, wav_bytes):
    assert refused(wav_bytes(5.0 + tone(500.0), subtype="FLOAT")) == "lost_sound"
