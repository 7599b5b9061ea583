"""Recordings of any length: in blocks, with the sound that decoding them as a whole gives."""
from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile

from kws.audio.blocks import open_whole, recording_blocks
from kws.audio.decode import Limits, decode
from kws.errors import AudioError

SHORT = Limits(max_seconds=1.0)


@pytest.mark.parametrize("kind, rate, format, subtype", [
    ("path", 16000, "WAV", "PCM_16"), ("bytes", 44100, "WAV", "PCM_24"), ("path", 44100, "FLAC", "PCM_16"),
    ("bytes", 16000, "OGG", "VORBIS"), ("path", 16000, "MP3", "MPEG_LAYER_III")])
def test_blocks_are_the_sound_of_the_whole(noise, tmp_path, format, subtype, rate, kind):
    path = tmp_path / "sound"
    soundfile.write(path, np.stack([noise(1, 23.0, rate), noise(2, 23.0, rate)], axis=1), rate, format=format,
                    subtype=subtype)
    blocks = list(recording_blocks(path if kind == "path" else path.read_bytes(), 16000, SHORT))
    expected = decode(path, 16000)
    assert len(blocks) >= 3 and max(map(len, blocks)) <= 10 * 16000 + 1000
    found = np.concatenate(blocks)
    assert len(found) == len(expected) and np.allclose(found, expected, atol=1e-5)


def test_within_the_limits_it_is_what_decode_gives(noise, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 1.0), 16000)
    only, = recording_blocks(tmp_path / "a.wav", 16000, SHORT)
    assert np.array_equal(only, decode(tmp_path / "a.wav", 16000))


def test_a_long_recording_that_is_cut_off_is_refused(noise, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 30.0), 16000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1000])
    with pytest.raises(AudioError) as error:
        list(recording_blocks(tmp_path / "a.wav", 16000, SHORT))
    assert error.value.code == "truncated_audio"


def test_a_recording_that_is_cut_while_it_is_heard_is_told(noise, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 60.0), 16000)
    blocks = recording_blocks(tmp_path / "a.wav", 16000, SHORT)
    next(blocks)
    os.truncate(tmp_path / "a.wav", 32000 * 25)
    with pytest.raises(AudioError, match="could be decoded") as error:
        for _ in blocks:
            pass
    assert error.value.code == "truncated_audio"


def test_the_decoder_of_mp3_goes_forwards_only(noise, tmp_path, capfd):
    rng = np.random.default_rng(0)
    bursts = noise(1, 60.0) * np.repeat(rng.uniform(0, 1, 600) ** 4, 1600).astype(np.float32)
    soundfile.write(tmp_path / "a.mp3", bursts, 16000, format="MP3", compression_level=0.5, bitrate_mode="VARIABLE")
    found = np.concatenate(list(recording_blocks(tmp_path / "a.mp3", 16000, SHORT)))
    assert np.array_equal(found, decode(tmp_path / "a.mp3", 16000))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content, code", [(b"", "empty_audio"), (b"text", "unsupported_audio")])
def test_other_errors_are_those_of_decode(content, code):
    with pytest.raises(AudioError) as error:
        list(recording_blocks(content, 16000))
    assert error.value.code == code


def test_a_recording_of_more_than_4_gib_is_heard(noise, tmp_path):
    """As recorders leave it that write to a pipe, here with a hole: the sizes in a WAV header have four bytes."""
    soundfile.write(tmp_path / "a.wav", noise(1, 1.0, 48000), 48000)
    samples = (tmp_path / "a.wav").read_bytes()[44:]
    with open(tmp_path / "a.wav", "r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 4 + samples)
        file.truncate(2**32 + 44 + 2**20)
    blocks = recording_blocks(tmp_path / "a.wav", 48000)
    assert np.array_equal(next(blocks)[:48000], np.frombuffer(samples, "<i2") / np.float32(32768))
    with open_whole(tmp_path / "a.wav", "a.wav") as sound:
        assert sound.frames == 2**31 + 2**19
