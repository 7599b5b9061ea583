import json

import numpy as np
import pytest

from kws.data.layout import SPEAKER_PATTERN
from kws.data.prepare import RejectedData, prepare
from kws.data.store import load_store
from kws.evaluation.reports.recordings import statistics, summary_text, write_summary

SETTINGS = {"keywords": ["yes", "no"], "sample_rate": 16000, "clip_seconds": 1.0, "min_seconds": 0.1,
            "max_seconds": 10.0, "speaker_pattern": SPEAKER_PATTERN,
            "split_by": "speaker", "validation_percent": 10.0, "testing_percent": 10.0, "require_noise": True}


def log_mel(waveform):
    """A stand-in for the front end: [T] -> [M, F]."""
    assert waveform.dtype == np.float32 and waveform.shape == (16000,) and np.abs(waveform).max() <= 1.0
    return np.log(np.abs(np.fft.rfft(waveform[:15360].reshape(-1, 256))) + 1e-6).T[:40]


@pytest.fixture
def report(corpus, tmp_path):
    return prepare(corpus(takes=1), tmp_path / "store", **SETTINGS)


def test_counts_add_up(report):
    found = statistics(report)
    assert found["clips_per_split"] == {"training": 24, "validation": 6, "testing": 6}
    assert found["clips_per_label"]["_unknown_"] == {"training": 8, "validation": 2, "testing": 2}
    assert found["clips_per_word"]["bed"] == found["clips_per_label"]["_unknown_"]
    assert found["speakers_per_split"] == {"training": 8, "validation": 2, "testing": 2}
    assert found["clips"] == found["files"] == 36 and found["problems"] == []
    assert found["clips_per_speaker"] == {"min": 3, "p5": 3, "median": 3, "p95": 3, "max": 3}
    assert found["quantiles"]["seconds"]["min"] == 0.6 and found["quantiles"]["seconds"]["max"] == 1.2
    assert found["sample_rates"] == {"16000": 36}
    assert [noise["seconds"] for noise in found["noise"]] == [3.0, 3.0]
    assert found["digest"] == report.digest != ""


def test_files_are_the_same_on_every_run(report, tmp_path):
    store = load_store(tmp_path / "store")
    for folder in ("a", "b"):
        write_summary(report, tmp_path / folder, store, log_mel)
    for name in ("data.json", "data.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "data.json").read_text()) == statistics(report)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["data.html", "data.json"]


def test_the_page_shows_the_words(report, tmp_path):
    write_summary(report, tmp_path, load_store(tmp_path / "store"), log_mel)
    page = (tmp_path / "data.html").read_text()
    assert page.count("<img") == 4 and "How the words look" in page
    write_summary(report, tmp_path)
    assert "How the words look" not in (tmp_path / "data.html").read_text()


def test_a_rejected_data_folder_has_a_report_too(corpus, tmp_path):
    root = corpus(takes=1)
    for number in range(30):
        (root / "yes" / f"<script>{number}_nohash_0.wav").write_bytes(b"")
    with pytest.raises(RejectedData) as caught:
        prepare(root, tmp_path / "store", **SETTINGS)
    write_summary(caught.value.report, tmp_path / "reports")
    found = json.loads((tmp_path / "reports" / "data.json").read_text())
    assert found["problems_per_code"] == {"error": {"empty_audio": 30}, "warning": {}}
    assert len(found["problems"]) == 30 and found["digest"] == ""
    page = (tmp_path / "reports" / "data.html").read_text()
    assert "&lt;script&gt;7_nohash_0.wav" in page and "<script" not in page


def test_nothing_readable_is_still_a_report(corpus, tmp_path):
    root = corpus(takes=1)
    for path in root.glob("*/*.wav"):
        path.write_bytes(b"")
    with pytest.raises(RejectedData) as caught:
        prepare(root, tmp_path / "store", **SETTINGS)
    write_summary(caught.value.report, tmp_path / "reports")
    found = json.loads((tmp_path / "reports" / "data.json").read_text())
    assert found["clips"] == 0 and found["problems_per_code"]["error"]["empty_audio"] == 38


def test_words_that_look_like_formulas_are_drawn(corpus, tmp_path):
    report = prepare(corpus(words=("yes", "no", "$x^$", "a_b", "$")), tmp_path / "store", **SETTINGS)
    write_summary(report, tmp_path / "reports", load_store(tmp_path / "store"), log_mel)
    assert (tmp_path / "reports" / "data.html").is_file()


def test_the_terminal_sees_a_table(report):
    lines = summary_text(report).splitlines()
    assert lines[0].split() == ["label", "training", "validation", "testing"]
    assert lines[1].split() == ["yes", "8", "2", "2"]
    assert lines[-2:] == ["36 of 36 clips, 0.009 h, 2 background recordings",
                          "12 clips are longer than 1 s: their loudest part is kept"]
