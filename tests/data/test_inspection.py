import hashlib
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kws.audio.decode import Limits, decode
from kws.data import inspection
from kws.data.inspection import FULL_SCALE, inspect_file, inspect_files, quantise
from kws.errors import DataError
from kws.model.window import loudest_start, pad_or_crop


def inspect(tmp_path, content, num_samples=16000, limits=Limits()):  # noqa: B008 - frozen
    (tmp_path / "a.wav").write_bytes(content)
    return inspect_file("a.wav", tmp_path, 16000, num_samples, limits)


@pytest.mark.parametrize("seconds", [1 / 16000, 0.5, 15999 / 16000, 1.0, 16001 / 16000, 3.0])
def test_the_window_is_exactly_what_the_decoder_and_the_window_say(tmp_path, noise, wav_bytes, seconds):
    content = wav_bytes(noise(0, seconds, amplitude=0.5))
    found = inspect(tmp_path, content)
    assert found.code == "" and found.samples.dtype == np.int16
    waveform = decode(content, 16000)
    start = loudest_start(waveform, 16000)
    np.testing.assert_array_equal(found.samples / FULL_SCALE, pad_or_crop(waveform[start:start + 16000], 16000))
    assert found.start_seconds == start / 16000
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_all_of_a_recording_is_kept_without_a_window(tmp_path, noise, wav_bytes):
    assert len(inspect(tmp_path, wav_bytes(noise(0, 2.5)), num_samples=None).samples) == 40000


def test_statistics_of_a_known_tone(tmp_path, tone, wav_bytes):
    found = inspect(tmp_path, wav_bytes(tone(1000.0, 0.5, amplitude=0.5) + np.float32(0.1)))
    assert (found.sample_rate, found.channels, found.num_samples, found.seconds) == (16000, 1, 8000, 0.5)
    assert found.dc_offset == pytest.approx(0.1, abs=1e-3)
    assert found.peak_db == pytest.approx(20 * np.log10(0.6), abs=0.01)
    assert found.rms_db == pytest.approx(10 * np.log10(0.5 ** 2 / 2 + 0.01), abs=0.01)
    assert found.clipped == 0.0


def test_clipping_is_that_of_the_window_where_it_is_worse(tmp_path, noise, wav_bytes):
    loud_end = np.concatenate([np.zeros(32000, np.float32), np.ones(8000, np.float32)])
    found = inspect(tmp_path, wav_bytes(loud_end))
    assert found.clipped == pytest.approx(0.5) and found.start_seconds == 1.5
    assert found.peak_db == pytest.approx(0.0, abs=0.01)


def test_the_source_format_is_told(tmp_path, noise, wav_bytes):
    stereo = np.stack([noise(0, 1.0, 44100), noise(1, 1.0, 44100)], axis=1)
    found = inspect(tmp_path, wav_bytes(stereo, 44100))
    assert (found.sample_rate, found.channels, found.num_samples) == (44100, 2, 44100)
    assert len(found.samples) == 16000


def test_silence_has_a_level(tmp_path, wav_bytes):
    found = inspect(tmp_path, wav_bytes(np.zeros(16000, np.float32)))
    assert found.peak_db == found.rms_db == -120.0


@pytest.mark.parametrize("content, code", [
    (b"", "empty_audio"), (b"hello, this is text", "unsupported_audio"), (b"RIFF\x24\0\0\0WAVE", "unsupported_audio"),
])
def test_a_bad_file_is_a_value(tmp_path, content, code):
    found = inspect(tmp_path, content)
    assert found.code == code and found.message.startswith("a.wav: ") and found.samples is None
    assert found.sha256 == hashlib.sha256(content).hexdigest() and found.num_samples == 0


def test_a_missing_file_is_a_value(tmp_path):
    found = inspect_file("b.wav", tmp_path, 16000, 16000, Limits())
    assert found.code == "not_found" and found.sha256 == ""


def test_a_long_recording_is_a_value(tmp_path, noise, wav_bytes):
    assert inspect(tmp_path, wav_bytes(noise(0, 2.0)), limits=Limits(max_seconds=1.5)).code == "too_long"


@given(arrays.arrays(np.int16, st.integers(1, 50)))
def test_quantising_gives_every_16_bit_sample_back(samples):
    np.testing.assert_array_equal(quantise((samples / FULL_SCALE).astype(np.float32)), samples)


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1.0, 1.0, width=32)))
def test_quantising_errs_by_half_a_step_and_saturates(waveform):
    error = quantise(waveform) / FULL_SCALE - waveform
    assert np.abs(error).max() <= 1.0 / FULL_SCALE
    assert np.abs(error[waveform < 32767 / FULL_SCALE]).max(initial=0.0) <= 0.5 / FULL_SCALE


def fill(tmp_path, noise, wav_bytes, count):
    paths = [f"{number:03}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        (tmp_path / path).write_bytes(wav_bytes(noise(number, 0.02)) if number % 7 else b"bad")
    return paths


def test_processes_give_the_same_in_the_same_order(tmp_path, noise, wav_bytes):
    paths = fill(tmp_path, noise, wav_bytes, 200)
    one, two = (list(inspect_files(paths, tmp_path, 16000, 320, Limits(), workers)) for workers in (1, 2))
    assert [found.path for found in two] == paths
    for expected, found in zip(one, two, strict=True):
        assert expected.code == found.code
        np.testing.assert_array_equal(expected.samples, found.samples)
        assert (expected.sha256, expected.rms_db, expected.message) == (found.sha256, found.rms_db, found.message)


def test_many_files_take_a_process_for_each_core_that_may_be_used_and_few_take_none(monkeypatch):
    monkeypatch.setattr(inspection, "available_cores", lambda: 3)  # of a container's share of a large machine
    assert [inspection._worth_starting(count) for count in (10, 10_000)] == [1, 3]


def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "read_bytes", lambda *arguments: os._exit(9))  # as when memory runs out
    with pytest.raises(DataError, match="worker process died") as caught:
        list(inspect_files(["a.wav"], tmp_path, 16000, 320, Limits(), workers=2))
    assert caught.value.code == "worker_died"


def test_stopping_early_stops_the_workers(tmp_path, noise, wav_bytes):
    paths = fill(tmp_path, noise, wav_bytes, 130)
    found = inspect_files(paths, tmp_path, 16000, 320, Limits(), workers=2)
    assert next(found).path == "000.wav"
    found.close()
