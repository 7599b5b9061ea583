"""Streams with answers made by hand: what is counted, which threshold is advised, what the report holds."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kws.errors import DataError
from kws.evaluation.stream_evaluation import (HeardStream, StreamSet, condition, conditions, group, miss_rates,
                                              of_labels, warn_of_other_words)
from kws.evaluation.stream_pictures import find_stream
from kws.evaluation.stream_report import evaluate_streams, figures, summary, write_report
from kws.evaluation.streams import Event, Stream
from kws.evaluation.threshold_advice import CONFIDENCES, advise, confidence_for, sweep, with_confidence
from kws.inference.detector import DetectorSettings, score_of
from kws.inference.listening import StreamModel, detector_of
from kws.model.folder import SHIPPED, STREAM_FILE

MODEL = StreamModel(SHIPPED / STREAM_FILE)
RULE = DetectorSettings(threshold=score_of(0.5), smoothing_seconds=0.02)
FRAMES = 50  # a second


def answers(seconds: int, *said: tuple[str, float, float]) -> np.ndarray:
    """Logits of a stream in which each (word, from second, confidence) is heard for 0.2 s, and nothing else."""
    found = np.full((seconds * FRAMES, len(MODEL.labels)), 1e-6)
    found[:, MODEL.labels.index("_silence_")] = 1.0
    for word, start, confidence in said:
        rows = slice(round(start * FRAMES), round(start * FRAMES) + 10)
        found[rows, MODEL.labels.index("_silence_")] = 1 - confidence
        found[rows, MODEL.labels.index(word)] = confidence
    return np.log(found).astype(np.float32)


def heard(path: str, seconds: float, said: list[tuple[str, float, float]], events: tuple[Event, ...] = (),
          kind: str = "speech", keyword_free: str = "yes") -> HeardStream:
    return HeardStream(Stream(path, seconds, kind, "en", keyword_free, events), answers(60, *said))


def spoken(*words: tuple[str, float]) -> tuple[Event, ...]:
    return tuple(Event(word, start, start + 1.0, start + 0.5) for word, start in words)


# Two hours of speech, in one minute of which a word is taken for "no" four times, and a minute with five words.
TALK = heard("neg/talk-00.wav", 7200.0, [("no", 5, 0.605), ("no", 15, 0.705), ("stop", 25, 0.805), ("no", 35, 0.905)])
WORDS = heard("pos/noise-10db.wav", 60.0, [("no", 5.2, 0.655), ("no", 15.2, 0.755), ("yes", 25.2, 0.855),
                                           ("yes", 35.2, 0.955), ("yes", 36.3, 0.975), ("up", 45.2, 0.985)],
              spoken(("no", 5), ("no", 15), ("yes", 25), ("yes", 35), ("go", 45), ("_unknown_", 55)), "mixed", "no")
STREAMS = StreamSet([TALK, WORDS], MODEL)


def test_a_stream_is_counted():
    row = conditions(STREAMS.heard, STREAMS.outcomes(RULE)).set_index("condition").loc["noise-10db"]
    assert (row.words, row.missed, row.false_accepts, row.wrong_words, row.doubles) == (5, 1, 1, 1, 1)
    assert row.miss_rate == 0.2 and row.false_accepts_per_hour == pytest.approx(60.0)
    first = detector_of(MODEL, RULE).seconds_of(0)  # each word's voice ends 0.3 s after its answer begins
    assert row.latency_median == pytest.approx(first - 0.3) == pytest.approx(row.latency_p95)
    assert (row.mlperf_missed, row.mlperf_false_accepts) == (20.0, 20.0)
    talk = conditions(STREAMS.heard, STREAMS.outcomes(RULE)).set_index("condition").loc["speech en"]
    assert (talk.false_accepts, talk.false_accepts_per_hour) == (4, 2.0)
    assert talk.mlperf_false_accepts == pytest.approx(4 / 6)
    assert talk.per_hour_low < 2.0 < talk.per_hour_high and np.isnan(talk.miss_rate)


@pytest.mark.parametrize("per_hour, confidence, accepted, missed", [
    (2.0, 0.02, 4, 0.2), (1.5, 0.61, 3, 0.2), (1.0, 0.71, 2, 0.4), (0.5, 0.81, 1, 0.6), (0.1, 0.91, 0, 0.8),
    (0.0, 0.91, 0, 0.8)])
def test_the_lowest_threshold_is_advised(per_hour: float, confidence: float, accepted: int, missed: float):
    advice, = advise(STREAMS, RULE, [per_hour])
    assert (advice.confidence, advice.false_accepts, advice.hours) == (confidence, accepted, 2.0)
    assert advice.miss_rates == {"noise": pytest.approx(missed)}
    assert confidence in CONFIDENCES  # what is printed is what was measured
    assert confidence_for(per_hour, STREAMS.keyword_free_speech, RULE) == confidence


def test_advice_says_how_sure_it_is():
    some, few = advise(STREAMS, RULE, [1.0, 0.1])
    assert str(some) == ("at 1 false accepts an hour: threshold 0.71 (2 in 2.0 h: 0.12 to 3.6 an hour at 95 %); "
                         "missed: noise 40%")
    assert "0.91 (2.0 h without any: at most 1.5 an hour at 95 %, too short to tell 0.1)" in str(few)


def test_thresholds_are_chosen_on_speech_in_the_language_of_the_keywords():
    dutch = HeardStream(replace(TALK.stream, language="nl"), TALK.logits)
    music = heard("neg/band.wav", 3600.0, [], kind="music")
    unsure = heard("neg/radio.wav", 3600.0, [], keyword_free="unknown")
    assert StreamSet([dutch, TALK, music, unsure, WORDS], MODEL).keyword_free_speech.heard == [TALK]
    assert StreamSet([dutch, music, WORDS], MODEL).keyword_free_speech.heard == [dutch]
    nothing = StreamSet([music, WORDS], MODEL)
    assert advise(nothing, RULE, [1.0]) == []
    with pytest.raises(DataError, match="nothing to choose a threshold on"):
        confidence_for(1.0, nothing.keyword_free_speech, RULE)


def test_a_sweep_is_what_each_rule_would_give():
    for confidence, outcomes in sweep(STREAMS, RULE).items():
        assert outcomes == STREAMS.outcomes(with_confidence(RULE, confidence))
    assert list(sweep(STREAMS, RULE)) == sorted(sweep(STREAMS, RULE))


def test_a_rule_with_another_smoothing_is_judged_anew():
    streams = StreamSet([TALK, WORDS], MODEL)
    assert sum(len(outcome.hits) for outcome in streams.outcomes(RULE)) == 4
    assert sum(len(outcome.hits) for outcome in streams.outcomes(replace(RULE, smoothing_seconds=1.0))) == 0
    assert sum(len(outcome.hits) for outcome in streams.outcomes(RULE)) == 4


@pytest.mark.parametrize("path, name, of_group", [
    ("pos/speech-10db.opus.ogg", "speech-10db", "speech"), ("clean-01.wav", "clean", "clean"),
    ("words/reader-en-00.ogg", "words reader-en", "words reader-en"), ("pos/10db.wav", "10db", "10db"),
    ("pos/rapid-noise-20dB.wav", "rapid-noise-20dB", "rapid-noise")])
def test_conditions_have_names_and_groups(path: str, name: str, of_group: str):
    assert condition(replace(WORDS.stream, path=path)) == name
    assert group(name) == of_group


def test_groups_are_pooled():
    table = pd.DataFrame({"condition": ["noise-5db", "noise-10db", "music"], "words": [10, 30, 0], "missed": [4, 4, 0]})
    assert miss_rates(table) == {"noise": 0.2}


def test_words_of_other_models_are_other_words(caplog: pytest.LogCaptureFixture):
    stream = Stream("a.wav", 60.0, "mixed", "en", "no", spoken(("yes", 1), ("maybe", 5), ("maybe", 9)))
    warn_of_other_words([stream], MODEL.labels)
    found, = of_labels([stream], MODEL.labels)
    assert [event.word for event in found.events] == ["yes", "_unknown_", "_unknown_"]
    assert "maybe (2)" in caplog.text
    with pytest.raises(DataError, match="no word is a keyword of the model; found maybe"):
        of_labels([replace(stream, events=spoken(("maybe", 5)))], MODEL.labels)
    with pytest.raises(DataError, match="a.wav is keyword_free, but"):
        of_labels([replace(stream, keyword_free="yes")], MODEL.labels)
    of_labels([replace(stream, events=spoken(("_silence_", 5)), keyword_free="yes")], MODEL.labels)


def test_a_report_has_figures_pictures_and_a_page(tmp_path: Path):
    evaluation = evaluate_streams(STREAMS, RULE)
    write_report(evaluation, tmp_path / "report", "<title>")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"metrics.json", "conditions.csv", "det.png", "words.png", "timeline.png", "report.html"}
    for name in ("det.png", "words.png", "timeline.png"):
        content = (tmp_path / "report" / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000
    metrics = json.loads((tmp_path / "report/metrics.json").read_text())
    assert metrics == json.loads(json.dumps(figures(evaluation)))
    assert metrics["miss_rate_noise"] == 0.2 and metrics["false_accepts_per_hour"] == 2.0
    assert metrics["doubles_per_100_words"] == metrics["wrong_words_per_100_words"] == 20.0
    assert [row["confidence"] for row in metrics["advice"]] == [0.02, 0.02, 0.71, 0.81, 0.91]
    assert metrics["conditions"]["speech en"]["miss_rate"] is None
    page = (tmp_path / "report/report.html").read_text()
    assert page.count("data:image/png") == 3 and "&lt;title&gt;" in page and summary(evaluation).splitlines()[1] in page
    write_report(evaluation, tmp_path / "report", "again", TALK.stream.path)
    assert f"A minute of {TALK.stream.path}" in (tmp_path / "report/report.html").read_text()


@pytest.mark.parametrize("streams", [[TALK], [WORDS], [heard("neg/rain.wav", 1.5, [], kind="noise")]],
                         ids=["speech", "words", "noise"])
def test_less_than_everything_can_be_reported(streams: list[HeardStream], tmp_path: Path):
    evaluation = evaluate_streams(StreamSet(streams, MODEL), replace(RULE, thresholds={"no": 3.0}))
    write_report(evaluation, tmp_path / "report", "title")
    assert (tmp_path / "report/timeline.png").stat().st_size > 5000 and not (tmp_path / "report/det.png").exists()
    assert "no 0.953" in summary(evaluation) or "no advice" in summary(evaluation)


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(FileExistsError):
        write_report(evaluate_streams(STREAMS, RULE), tmp_path, "title")
    assert (tmp_path / "thesis.txt").exists()


def test_the_timeline_is_of_the_stream_with_most_words_or_the_named_one():
    assert find_stream(STREAMS, None) == 1 and find_stream(STREAMS, "neg/talk-00.wav") == 0
    with pytest.raises(DataError, match="x.wav: no such stream; there are neg/talk-00.wav, pos/noise-10db.wav"):
        find_stream(STREAMS, "x.wav")
