"""Sound in, detections out: the same in any pieces, nothing from what is no word, no growth."""
from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.inference.decision import Detection
from kws.inference.detector import DetectorSettings
from kws.errors import ModelError
from kws.audio.decode import decode
from kws.inference.spotter import KeywordSpotter
from kws.inference.listening import Listener, StreamModel, listen
from kws.model.folder import ONNX_FILE, SHIPPED, STREAM_FILE

EAGER = DetectorSettings(threshold=-3.0, smoothing_seconds=0.1)  # so that more is taken for words
RATE = 16_000


@pytest.fixture(scope="module")
def model() -> StreamModel:
    return StreamModel(SHIPPED / STREAM_FILE)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return decode(Path(__file__).resolve().parents[2] / "docs/samples/five-words.flac", RATE)


@pytest.fixture(scope="module")
def whole(model: StreamModel, sound: np.ndarray) -> list[Detection]:
    found = list(listen(model, [sound], EAGER))
    assert len(found) >= 4
    return found


@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(0, 96_000), max_size=30))
def test_the_pieces_do_not_matter(model: StreamModel, sound: np.ndarray, whole: list[Detection], cuts: list[int]):
    pieces = np.split(sound, sorted(min(cut, len(sound)) for cut in cuts))
    assert list(listen(model, pieces, EAGER)) == whole


@settings(deadline=None, max_examples=5)
@given(sizes=st.lists(st.integers(1, 160_000), min_size=1, max_size=40))
def test_words_are_the_same_in_any_pieces(model: StreamModel, sound: np.ndarray, sizes: list[int]):
    pieces = np.split(sound, np.cumsum(sizes).clip(max=len(sound)))
    expected = list(listen(model, [sound]))
    found = list(listen(model, pieces))
    assert found == expected != [] and [item.confidences for item in found] == [item.confidences for item in expected]


def test_few_rows_a_call_are_the_same_as_many(model: StreamModel, sound: np.ndarray):
    """What pieces of any size rest on, to the last bit."""
    outputs = []
    for rows in (5, 10, 45, 200):
        state, found, size = np.zeros((1, model.state_size), np.float32), [], rows * model.step_samples
        for start in range(0, 200 * model.step_samples, size):
            (logits,), state = model.step(sound[None, start:min(start + size, 200 * model.step_samples)], state)
            found.append(logits)
        outputs.append(np.concatenate(found))
    assert all(np.array_equal(found, outputs[0]) for found in outputs)


def test_sample_by_sample_is_the_same(model: StreamModel, sound: np.ndarray):
    short = sound[:24_000]
    assert list(listen(model, short[:, None], EAGER)) == list(listen(model, [short], EAGER)) != []


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


@pytest.mark.parametrize("size", ["17", "-1"])
def test_a_file_that_does_not_fit_its_metadata_is_named(tmp_path: Path, size: str):
    proto = onnx.load(SHIPPED / STREAM_FILE)
    facts = {item.key: item.value for item in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**facts, "state_size": size})
    onnx.save(proto, tmp_path / "a.onnx")
    with pytest.raises(ModelError, match=rf"a\.onnx: does not run on a state of {size} numbers"):
        StreamModel(tmp_path / "a.onnx")


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


TIMES = np.arange(6 * RATE) / RATE
NO_WORDS = {"silence": 0 * TIMES, "DC": 0 * TIMES + 0.5, "a step": np.where(TIMES < 3, -0.5, 0.5),
            "a hum": 0.3 * np.sin(2 * np.pi * 50 * TIMES), "a loud hum": 4 * np.sin(2 * np.pi * 50 * TIMES),
            "clipping": np.sign(np.sin(2 * np.pi * 440 * TIMES)), "NaN": 0 * TIMES + np.nan,
            "some NaN": np.where(TIMES % 0.7 < 0.1, np.nan, 0.1 * np.sin(2 * np.pi * 300 * TIMES)),
            "noise": np.random.default_rng(0).normal(0, 0.1, len(TIMES)),
            "clipped noise": np.random.default_rng(1).normal(0, 3.0, len(TIMES)),
            "noise that starts": np.random.default_rng(2).normal(0, 0.1, len(TIMES)) * (TIMES % 2 > 1)}


@pytest.mark.parametrize("name", NO_WORDS)
def test_the_shipped_model_hears_no_word_in_what_is_none(model: StreamModel, name: str):
    assert list(listen(model, [NO_WORDS[name]])) == []


@pytest.mark.parametrize("name", ["silence", "a hum", "noise", "NaN"])
def test_after_a_reset_nothing_is_left_of_a_word(model: StreamModel, sound: np.ndarray, name: str):
    listener, first = Listener(model), next(listen(model, [sound]))
    for heard in (0.5, 0.8, 0.95, 1.0):  # of what is needed to know the first word
        listener.feed(sound[:int(heard * first.time_seconds * RATE)])
        listener.reset()
        assert listener.feed(NO_WORDS[name][:2 * RATE]) == []
        listener.reset()


def test_memory_stays_flat(model: StreamModel, sound: np.ndarray):
    listener, held = Listener(model), []
    tracemalloc.start()
    try:
        for _ in range(4):
            for start in range(0, len(sound), 1600):
                listener.feed(sound[start:start + 1600])
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert abs(held[-1] - held[1]) < 20_000  # bytes, over 9 s
