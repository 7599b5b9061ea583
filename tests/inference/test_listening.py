"""Sound in, detections out: the same in any pieces, nothing from what is no word, no growth."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.inference.detector import Detection, DetectorSettings
from kws.errors import ModelError
from kws.export.to_stream import write_stream_onnx
from kws.inference.spotter import KeywordSpotter
from kws.inference.listening import Listener, StreamModel, listen
from kws.model.folder import ONNX_FILE, SHIPPED, STREAM_FILE
from kws.model.loading import load_torch_model

EAGER = DetectorSettings(threshold=-3.0, smoothing_seconds=0.1)  # so that noise, too, is taken for words
RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StreamModel:
    path = tmp_path_factory.mktemp("stream") / STREAM_FILE
    write_stream_onnx(load_torch_model(SHIPPED), path)
    return StreamModel(path)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    rng = np.random.default_rng(3)
    loudness = np.repeat(10.0 ** rng.uniform(-3, -0.5, size=100), 960)
    return (rng.standard_normal(96_000) * loudness).clip(-1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def whole(model: StreamModel, sound: np.ndarray) -> list[Detection]:
    found = list(listen(model, [sound], EAGER))
    assert len(found) >= 2
    return found


@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(0, 96_000), max_size=30))
def test_the_pieces_do_not_matter(model: StreamModel, sound: np.ndarray, whole: list[Detection], cuts: list[int]):
    assert list(listen(model, np.split(sound, sorted(cuts)), EAGER)) == whole


def test_sample_by_sample_is_the_same(model: StreamModel, sound: np.ndarray):
    short = sound[:24_000]
    assert list(listen(model, short[:, None], EAGER)) == list(listen(model, [short], EAGER))


def test_int16_is_the_same_sound(model: StreamModel, sound: np.ndarray):
    samples = (sound * 32767).astype(np.int16)
    assert list(listen(model, [samples], EAGER)) == list(listen(model, [samples / np.float32(32768)], EAGER))


def test_a_detection_is_known_when_its_time_was_heard(model: StreamModel, sound: np.ndarray, whole: list[Detection]):
    listener, first = Listener(model, EAGER), whole[0]
    needed = round(first.time_seconds * RATE)
    assert listener.feed(sound[:needed - 1]) == []
    assert first in listener.feed(sound[needed - 1:needed + 5 * model.step_samples])  # with the call it lies in
    for detection in whole:
        assert 0 <= detection.start_seconds <= detection.end_seconds <= detection.time_seconds


def test_reset_makes_it_new(model: StreamModel, sound: np.ndarray, whole: list[Detection]):
    listener = Listener(model, EAGER)
    listener.feed(sound[5_000:50_001])
    listener.reset()
    assert listener.feed(sound) + listener.finish() == whole


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, -7.0, np.nan, np.inf])
def test_what_is_no_sound_is_no_word(model: StreamModel, value: float):
    assert list(listen(model, [np.full(5 * RATE, value, dtype=np.float32)], DetectorSettings(threshold=0.0))) == []


def test_nan_does_not_stay(model: StreamModel, sound: np.ndarray):
    listener = Listener(model, EAGER)
    listener.feed(np.full(RATE, np.nan, dtype=np.float32))
    silent = Listener(model, EAGER)
    silent.feed(np.zeros(RATE, dtype=np.float32))
    assert listener.feed(sound) == silent.feed(sound) != []


def test_what_is_remembered_does_not_grow(model: StreamModel, sound: np.ndarray):
    listener = Listener(model, EAGER)
    for _ in range(3):
        listener.feed(sound)
        assert len(listener._pending) < 5 * model.step_samples and listener._pending.base is None
        assert listener._state.shape == (1, model.state_size)


@pytest.mark.parametrize("samples", [np.zeros((2, 100), np.float32), np.zeros(100, np.int32), np.zeros(9, complex)])
def test_other_samples_are_refused(model: StreamModel, samples: np.ndarray):
    with pytest.raises(ValueError, match="expected \\[T\\]"):
        Listener(model).feed(samples)


def test_a_file_for_clips_is_no_model_for_running_sound():
    with pytest.raises(ModelError, match="running sound"):
        StreamModel(SHIPPED / ONNX_FILE)


def test_a_spotter_of_a_single_file_cannot_stream():
    with pytest.raises(ModelError, match="model folder"):
        KeywordSpotter(SHIPPED / ONNX_FILE).stream([])


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match="no such file"):
        StreamModel(tmp_path / STREAM_FILE)


def test_after_a_gap_times_go_on(model: StreamModel, sound: np.ndarray, whole: list[Detection]):
    listener = Listener(model, EAGER)
    listener.feed(sound[:50_000])
    listener.reset(at_seconds=3600.0)
    again = listener.feed(sound) + listener.finish()
    assert [found.word for found in again] == [found.word for found in whole]
    for found, expected in zip(again, whole):
        assert found.time_seconds == pytest.approx(expected.time_seconds + 3600)
        assert found.start_seconds == pytest.approx(expected.start_seconds + 3600)
        assert found.end_seconds == pytest.approx(expected.end_seconds + 3600)
