import json
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws import KeywordSpotter, Prediction
from kws.audio.decode import decode
from kws.errors import AudioError, ModelError
from kws.model.folder import CONFIG_FILE, ONNX_FILE, SHIPPED, STREAM_FILE
from kws.model.labels import LabelSet
from kws.model.window import pad_or_crop, window_starts

LABELS = LabelSet.from_keywords(["yes", "no"])
SAMPLES = Path(__file__).resolve().parents[2] / "docs/samples"


class Loudness:
    """A runtime that hears `yes` in proportion to the loudness of a window: its answers can be foretold."""

    labels, sample_rate, num_samples = LABELS, 16000, 16000

    def __init__(self):
        self.batches = []

    def logits(self, waveforms):
        self.batches.append(len(waveforms))
        loudness = np.abs(waveforms).mean(axis=1)
        return np.stack([20 * loudness, 0 * loudness, 1 + 0 * loudness, 0 * loudness], axis=1).astype(np.float32)


@pytest.fixture
def spotter():
    return KeywordSpotter(Loudness())


@pytest.fixture
def wav(tmp_path):
    def make(name, waveform, rate=16000, **kwargs):
        soundfile.write(tmp_path / name, waveform, rate, **kwargs)
        return tmp_path / name
    return make


def test_every_kind_of_clip_is_answered_alike(exported, wav, noise):
    spotter = KeywordSpotter(exported, threads=1)  # two share a product otherwise, and its last bits, by its size
    path = wav("a.wav", noise(0, 0.8))
    waveform = decode(path, 16000)
    answers = spotter([path, str(path), path.read_bytes(), waveform, np.round(waveform * 32768).astype(np.int16)])
    assert all(answer == answers[0] for answer in answers) and isinstance(answers[0], Prediction)
    assert spotter(path).confidences == pytest.approx(answers[0].confidences, abs=1e-6)
    assert list(answers[0].confidences) == list(spotter.labels)
    assert sum(answers[0].confidences.values()) == pytest.approx(1.0)


def test_bad_clips_are_values_among_the_good(spotter, wav, noise, tmp_path):
    good = wav("a.wav", noise(0, 1.0))
    (tmp_path / "text.wav").write_text("not audio")
    answers = spotter([good, tmp_path / "absent.wav", b"", good, tmp_path / "text.wav", tmp_path,
                       np.array([np.nan]), np.zeros((2, 5)), np.zeros(0), good])
    assert [answer.code if isinstance(answer, AudioError) else answer.label for answer in answers] == [
        "yes", "not_found", "empty_audio", "yes", "unsupported_audio", "unreadable", "bad_samples", "empty_audio",
        "empty_audio", "yes"]


def test_a_single_bad_clip_is_raised(spotter, tmp_path):
    with pytest.raises(AudioError, match="absent.wav: no such file"):
        spotter(tmp_path / "absent.wav")


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int64, bool, complex, object, str])
def test_samples_of_a_type_without_a_known_scale_are_refused(spotter, kind, noise):
    answers = spotter([np.ones(16000).astype(kind), noise(0, 1.0)])
    assert answers[0].code == "bad_samples" and "int16" in str(answers[0])
    assert answers[1].label == "yes"


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_samples_of_any_float_type_are_heard_alike(spotter, kind, noise):
    waveform = noise(0, 1.0).astype(np.float16)
    assert spotter(waveform.astype(kind)) == spotter(waveform)


def test_nothing_is_answered_with_nothing(spotter):
    assert spotter([]) == []


def test_names_stand_in_messages(spotter, tmp_path):
    answer, = spotter.classify([tmp_path / "absent.wav"], names=["clips/absent.wav"])
    assert str(answer) == "clips/absent.wav: no such file"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(spotter, threshold, noise):
    with pytest.raises(ValueError, match="threshold"):
        spotter.classify([noise(0, 1.0)], threshold)


def test_the_threshold_turns_unsure_keywords_into_unknown(spotter, noise):
    sure = spotter(noise(0, 1.0, amplitude=0.2)).confidence
    assert spotter(noise(0, 1.0, amplitude=0.2), threshold=sure + 1e-6).label == "_unknown_"
    assert spotter(noise(0, 1.0, amplitude=0.2), threshold=sure - 1e-6).label == "yes"


def test_the_keyword_in_a_long_recording_is_found_and_placed(spotter, noise):
    recording = np.zeros(16000 * 5, dtype=np.float32)
    recording[40000:56000] = noise(0, 1.0)
    answer = spotter(recording)
    assert answer.label == "yes" and answer.start_seconds == 2.5
    assert spotter(np.zeros(16000 * 5, dtype=np.float32)).start_seconds == 0.0
    np.testing.assert_array_equal(spotter.window(recording, answer.start_seconds), recording[40000:56000])


def test_long_and_short_recordings_are_told_apart_in_one_batch(spotter, noise):
    loud, quiet = noise(0, 1.0), noise(1, 1.0, amplitude=0.001)
    long = np.concatenate([quiet, quiet, loud])
    answers = spotter([long, quiet, loud, long[::-1].copy(), quiet])
    assert [answer.label for answer in answers] == ["yes", "_unknown_", "yes", "yes", "_unknown_"]
    assert [answer.start_seconds for answer in answers] == [2.0, 0.0, 0.0, 0.0, 0.0]
    assert max(spotter._runtime.batches) <= 16


def test_an_hour_is_refused(spotter):
    silence = np.zeros(601 * 16000, dtype=np.int16)
    assert isinstance(spotter.classify([wav_of(silence)])[0], AudioError)


def wav_of(samples):
    import io
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV")
    return file.getvalue()


def test_threads_share_a_spotter(exported, noise):
    spotter, clips = KeywordSpotter(exported, threads=1), [noise(seed, 0.5 + 0.2 * seed) for seed in range(12)]
    expected, found = spotter.classify(clips), {}
    threads = [threading.Thread(target=lambda key=key: found.update({key: spotter.classify(clips)}))
               for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[key] == expected for key in range(4))


def test_a_model_that_answers_nan_is_an_error(noise):
    class Broken(Loudness):
        def logits(self, waveforms):
            return np.full((len(waveforms), 4), np.nan, dtype=np.float32)
    with pytest.raises(ModelError, match="NaN"):
        KeywordSpotter(Broken())(noise(0, 1.0))


@given(st.integers(1, 200), st.integers(1, 50))
def test_windows_hear_every_sample_and_only_the_recording(length, num_samples):
    starts = window_starts(length, num_samples)
    heard = {sample for start in starts for sample in range(start, min(start + num_samples, length))}
    assert heard == set(range(length)) and starts == sorted(set(starts)) and starts[0] == 0
    assert starts[-1] + num_samples <= max(length, num_samples)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40000), min_size=1, max_size=6))
def test_an_answer_does_not_depend_on_the_neighbours(lengths):
    spotter = KeywordSpotter(Loudness())
    rng = np.random.default_rng(len(lengths))
    clips = [rng.uniform(-1, 1, length).astype(np.float32) * rng.uniform() for length in lengths]
    assert spotter.classify(clips) == [spotter(clip) for clip in clips]


def test_the_road_is_decode_fit_logits_decide(exported, real_speech):
    """A real file, step by step."""
    spotter = KeywordSpotter(exported)
    for path in sorted(Path(real_speech, "yes").iterdir())[:5]:
        logits = spotter._runtime.logits(pad_or_crop(decode(path, 16000), 16000)[None]).astype(np.float64)[0]
        expected = np.exp(logits) / np.exp(logits).sum()
        assert list(spotter(path).confidences.values()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_arrays_obey_the_rule_of_files_about_scale(spotter, noise):
    loud = noise(0, 1.0)
    answers = spotter([(20000 * loud).astype(np.float32), 20000 * loud.astype(np.float64), 3 * loud, loud + 0.5])
    assert [getattr(answer, "code", "heard") for answer in answers] == ["bad_samples", "bad_samples", "heard", "heard"]
    assert "-1..1" in str(answers[0])


def test_tensors_and_buffers_are_heard(spotter, wav, noise):
    torch = pytest.importorskip("torch")
    waveform = noise(0, 1.0)
    content = wav("a.wav", waveform).read_bytes()
    assert spotter(torch.from_numpy(waveform)) == spotter(waveform)
    assert spotter(memoryview(content)) == spotter(content)


@pytest.mark.parametrize("clip", [None, 0.5, 7, {}, object(), open, np.float32(0.5), np.zeros(()), np.zeros((1, 9)),
                                  [0.1]])
def test_what_is_no_clip_is_told_in_one_line(spotter, clip, noise):
    bad, good = spotter([clip, noise(0, 1.0)])
    assert isinstance(bad, AudioError) and len(str(bad)) < 300 and "expected" in str(bad) and good.label == "yes"


def test_a_tensor_that_is_no_array_is_told_in_one_line(spotter):
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(9, requires_grad=True), torch.zeros(9, dtype=torch.bfloat16),
                   torch.zeros(9, device="meta")):
        with pytest.raises(AudioError) as caught:
            spotter(tensor)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_an_answer_knows_how_much_was_decoded(spotter, noise, wav):
    assert spotter(noise(0, 2.5)).seconds == 2.5
    assert spotter(wav("a.wav", noise(0, 0.7, 8000), 8000)).seconds == pytest.approx(0.7, abs=1e-3)


@pytest.fixture(scope="module")
def shipped():
    return KeywordSpotter(threads=1)


def test_a_long_recording_is_searched_as_running_sound_is(shipped):
    recording = decode(SAMPLES / "five-words.flac", 16000)
    answer = shipped(recording)
    assert list(answer.detections) == list(shipped.stream([recording])) != []
    surest = max(answer.detections, key=lambda found: found.confidence)
    assert (answer.label, answer.confidence) == (surest.word, surest.confidence)
    assert answer.start_seconds == pytest.approx(surest.start_seconds, abs=1e-3)
    assert sum(answer.confidences.values()) == pytest.approx(1.0)
    assert answer.confidences[answer.label] == answer.confidence and list(answer.confidences) == list(shipped.labels)


def test_the_threshold_is_that_of_every_keyword_in_it(shipped):
    answer = shipped(SAMPLES / "five-words.flac")
    least = min(found.confidence for found in answer.detections)
    stricter = shipped(SAMPLES / "five-words.flac", threshold=least + 0.02)
    assert all(found.confidence >= least + 0.02 for found in stricter.detections)
    assert shipped(SAMPLES / "five-words.flac", threshold=1.0).detections == ()


@pytest.mark.parametrize("seconds", [1.0, 0.7])
def test_what_fits_the_window_is_answered_by_the_window(shipped, noise, seconds):
    clip = noise(0, seconds)
    assert shipped(clip) == KeywordSpotter(SHIPPED / ONNX_FILE, threads=1)(clip)
    assert shipped(clip).detections is None


@pytest.mark.parametrize("level, label", [(0.0, "_silence_"), (1e-4, "_silence_"), (1e-2, "_silence_")])
def test_a_long_recording_of_nothing_is_silence(shipped, noise, level, label):
    answer = shipped(noise(0, 5.0, amplitude=level))
    assert (answer.label, answer.detections) == (label, ()) and answer.confidence == answer.confidences[label]


def test_another_word_in_a_long_silence_is_unknown(shipped, noise):
    recording = noise(1, 6.0, amplitude=1e-3)
    recording[40_000:56_000] += decode(SAMPLES / "cat.flac", 16000)
    answer = shipped(recording)
    assert (answer.label, answer.detections) == ("_unknown_", ())
    assert 1.5 <= answer.start_seconds <= 3.5  # of the first window that is not silence


def test_long_recordings_of_speech_are_no_keywords(shipped, running_speech):
    """Of 30 s of other words 72 % were called a keyword by their best window."""
    answers = shipped([running_speech[start:start + 480_000] for start in range(0, len(running_speech), 480_000)])
    assert [answer.label for answer in answers] == ["_unknown_"] * len(answers)


@pytest.fixture(scope="module")
def running_speech():
    path = Path(__file__).resolve().parents[3] / "shared/streams/neg/reader-en-00.opus.ogg"
    if not path.is_file():
        pytest.skip("no recordings of running speech here")
    return soundfile.read(path, frames=150 * 16000, dtype="float32")[0]


def test_long_recordings_are_answered_alike_alone_and_together_and_by_many_threads(shipped, noise):
    clips = [SAMPLES / "five-words.flac", noise(0, 1.0), noise(1, 3.0), b"", SAMPLES / "five-words.flac", noise(2, 1.5)]
    expected = [shipped.classify([clip])[0] for clip in clips]
    assert str(expected[3]) == str(shipped.classify(clips)[3])
    found = {}
    threads = [threading.Thread(target=lambda key=key: found.update({key: shipped.classify(clips)}))
               for key in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answers in found.values():
        assert [answer for answer in answers if isinstance(answer, Prediction)] == [
            answer for answer in expected if isinstance(answer, Prediction)]


def test_a_folder_without_a_model_for_running_sound_keeps_to_windows(exported, noise):
    recording = noise(0, 3.0)
    assert KeywordSpotter(exported)(recording) == KeywordSpotter(exported / ONNX_FILE)(recording)
    assert KeywordSpotter(exported)(recording).detections is None


def test_the_model_for_running_sound_must_have_the_same_labels(exported, tmp_path, noise):
    for source in (exported / CONFIG_FILE, exported / ONNX_FILE, SHIPPED / STREAM_FILE):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ModelError, match="stream.onnx: knows down go .* export the folder again"):
        KeywordSpotter(tmp_path)


def test_a_loaded_folder_answers_as_before_when_its_files_are_gone(tmp_path, noise):
    folder = shutil.copytree(SHIPPED, tmp_path / "kws")
    spotter, clips = KeywordSpotter(folder), [noise(0, 1.0), noise(0, 3.0)]
    expected = spotter(clips), spotter.digest
    shutil.rmtree(folder)
    assert (spotter(clips), spotter.digest) == expected


def test_the_digest_is_of_both_models(exported, tmp_path):
    for source in (exported / CONFIG_FILE, exported / ONNX_FILE):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    digests = [KeywordSpotter(exported).digest, KeywordSpotter(tmp_path).digest]
    proto = onnx.load(SHIPPED / STREAM_FILE)
    facts = {item.key: item.value for item in proto.metadata_props}
    for threshold in (1.0, 2.0):
        rule = {**json.loads(facts["detector"]), "threshold": threshold}
        labels = json.dumps(list(KeywordSpotter(exported).labels))
        onnx.helper.set_model_props(proto, {**facts, "labels": labels, "detector": json.dumps(rule)})
        onnx.save(proto, tmp_path / STREAM_FILE)
        digests.append(KeywordSpotter(tmp_path).digest)
    assert digests[0] == digests[1] and len(set(digests)) == 3
