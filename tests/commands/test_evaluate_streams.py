"""`kws evaluate-streams` on folders of streams: what it writes, what it stores, what it refuses."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import onnx
import pytest
import soundfile

from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK
from kws.inference.detector import score_of, settings_from
from kws.inference.listening import StreamModel
from kws.model.folder import CONFIG_FILE, SHIPPED, STREAM_FILE
from kws.tracking.run_file import run_file

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "path,seconds,kind,language,keyword_free\n"
EVENTS = "stream,start_s,end_s,word,voice_end_s\n"


@pytest.fixture
def streams(tmp_path: Path, noise: Callable[..., np.ndarray]) -> Path:
    """A folder with a stream of three words, one of them no keyword, and one of noise that passes for speech."""
    folder = tmp_path / "streams"
    folder.mkdir()
    said = {word: soundfile.read(ROOT / f"docs/samples/{word}.flac", dtype="float32")[0]
            for word in ("yes", "cat", "stop")}
    sound = noise(1, 12.0, amplitude=0.001)
    for number, clip in enumerate(said.values()):
        sound[(2 + 3 * number) * 16000:][:len(clip)] += clip
    soundfile.write(folder / "clean.wav", sound, 16000)
    soundfile.write(folder / "talk.wav", noise(2, 12.0, amplitude=0.01), 16000)
    (folder / "manifest.csv").write_text(f"{MANIFEST}clean.wav,12,mixed,en,no\ntalk.wav,12,speech,en,yes\n")
    (folder / "events.csv").write_text(f"{EVENTS}clean.wav,2,3,yes,2.9\nclean.wav,5,6,cat,\nclean.wav,8,9,stop,\n")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The shipped model, to be written to."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (CONFIG_FILE, STREAM_FILE):
        shutil.copy(SHIPPED / name, folder / name)
    return folder


def evaluate(streams: Path, *arguments: Any) -> int:
    return main(["evaluate-streams", str(streams), "--output", str(streams.parent / "report"), *map(str, arguments)])


def test_the_shipped_model_is_measured(streams: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(streams.parent)  # no configuration here, and no training
    assert evaluate(streams) == EXIT_OK
    printed = capsys.readouterr()
    assert "clean " in printed.out and "at 1 false accepts an hour: threshold" in printed.out
    assert "cat (1)" in printed.err  # is no keyword
    metrics = json.loads((streams.parent / "report/metrics.json").read_text())
    clean = metrics["conditions"]["clean"]
    assert clean["words"] == 2 and metrics["miss_rate_clean"] == clean["missed"] / 2 < 1
    assert metrics["false_accepts_per_hour"] == 0.0 and metrics["hours"] == pytest.approx(24 / 3600)
    assert metrics["detector"] == json.loads((SHIPPED / CONFIG_FILE).read_text())["detector"]


def test_a_rule_is_chosen_and_stored_with_its_advice(streams: Path, model: Path):
    document = json.loads((model / CONFIG_FILE).read_text())
    document["detector"]["thresholds"] = {"no": 3.0}  # replaced by the one for all
    (model / CONFIG_FILE).write_text(json.dumps(document))
    before = StreamModel(model / STREAM_FILE)
    assert evaluate(streams, "--model", model, "--per-hour", 0, "--write") == EXIT_OK
    metrics = json.loads((streams.parent / "report/metrics.json").read_text())
    confidence = metrics["advice"][0]["confidence"]
    after = StreamModel(model / STREAM_FILE)
    assert after.settings == settings_from(json.loads((model / CONFIG_FILE).read_text())["detector"])
    assert after.settings == settings_from(metrics["detector"])
    assert after.settings.threshold == score_of(confidence) and after.settings.thresholds == {}
    assert after.settings.smoothing_seconds == before.settings.smoothing_seconds
    facts = {item.key: item.value for item in onnx.load(model / STREAM_FILE).metadata_props}
    assert json.loads(facts["detector_advice"]) == metrics["advice"]
    assert evaluate(streams, "--model", model) == EXIT_OK  # the stored rule, as it is
    assert json.loads((streams.parent / "report/metrics.json").read_text())["detector"] == metrics["detector"]


@pytest.mark.parametrize("broken", ["{", "[]", None])
def test_a_rule_is_stored_in_both_files_or_in_none(model: Path, streams: Path, broken: Optional[str],
                                                   capsys: pytest.CaptureFixture[str]):
    (model / CONFIG_FILE).unlink() if broken is None else (model / CONFIG_FILE).write_text(broken)
    before = (model / STREAM_FILE).read_bytes()
    assert evaluate(streams, "--model", model, "--per-hour", 0, "--write") == EXIT_BAD_INPUT
    assert f"error: {model / CONFIG_FILE}: cannot be read (" in capsys.readouterr().err
    assert (model / STREAM_FILE).read_bytes() == before


def test_a_full_disk_leaves_both_files_as_they_were(model: Path, streams: Path, small_disk: Path,
                                                    capsys: pytest.CaptureFixture[str]):
    before = {name: (model / name).read_bytes() for name in (CONFIG_FILE, STREAM_FILE)}
    for name, content in before.items():
        (small_disk / name).write_bytes(content)
    (small_disk / "rest").write_bytes(bytes(shutil.disk_usage(small_disk).free - 32768))  # config.json would fit
    assert evaluate(streams, "--model", small_disk, "--per-hour", 0, "--write") == EXIT_BAD_INPUT
    assert "No space left" in capsys.readouterr().err
    assert {name: (small_disk / name).read_bytes() for name in before} == before


def test_a_damaged_note_of_the_run_is_named(model: Path, streams: Path, capsys: pytest.CaptureFixture[str]):
    note = run_file(model)
    for damaged in ("", "[]"):
        note.write_text(damaged)
        assert evaluate(streams, "--model", model) == EXIT_BAD_INPUT
        assert f"error: {note}: cannot be read (" in capsys.readouterr().err


def test_the_model_of_the_package_is_not_written_to(streams: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("kws.commands.cli.TRAINED", streams / "none")
    before = [(SHIPPED / name).read_bytes() for name in (CONFIG_FILE, STREAM_FILE)]
    assert evaluate(streams, "--per-hour", "1", "--write") == EXIT_BAD_INPUT
    assert "--write would change the model of the package" in capsys.readouterr().err
    assert before == [(SHIPPED / name).read_bytes() for name in (CONFIG_FILE, STREAM_FILE)]


def test_without_write_the_model_stays_as_it_is(streams: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert evaluate(streams, "--model", model, "--per-hour", 2) == EXIT_OK
    assert "too short to tell 2 false accepts an hour; the threshold is a guess" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


@pytest.mark.parametrize("file, text, message", [
    ("manifest.csv", None, "manifest.csv: no such file; a folder of streams holds"),
    ("events.csv", None, "events.csv: no such file"),
    ("manifest.csv", "", "manifest.csv: not readable as a table"),
    ("manifest.csv", MANIFEST, "no streams; expected one a row"),
    ("manifest.csv", MANIFEST + "gone.wav,12,speech,en,yes\n", "events of clean.wav, which is not in"),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,no\ngone.wav,9,noise,,yes\n", "gone.wav: no such file, but"),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,no\nclean.wav,12,mixed,en,no\n", "clean.wav: named twice"),
    ("manifest.csv", MANIFEST + "clean.wav,60,mixed,en,no\n", "clean.wav: lasts 12.0 s; manifest.csv says 60 s"),
    ("manifest.csv", MANIFEST + "clean.wav,long,mixed,en,no\n", "seconds in line 2 is 'long'; expected a number"),
    ("manifest.csv", MANIFEST + "clean.wav,0.5,mixed,en,no\n", "clean.wav: 0.5 s; expected 1 s or more"),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,no\nshort.wav,1,noise,,yes\n", "short.wav: lasts 0.2 s; "),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,maybe\n", "keyword_free is 'maybe'; expected yes, no, unknown"),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,yes\n", "clean.wav is keyword_free, but events.csv has"),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,no\nevents.csv,12,noise,,yes\n", "events.csv: Format not"),
    ("manifest.csv", MANIFEST + "clean.wav,12,mixed,en,no\nfast.wav,12,music,,yes\n", "fast.wav: 44,100 Hz, 2"),
    ("events.csv", EVENTS + "clean.wav,11.5,12.5,yes,\n", "'yes' from 11.5 to 12.5 s in clean.wav; expected a time in"),
    ("events.csv", EVENTS + "clean.wav,-1,1,yes,\n", "'yes' from -1 to 1 s"),
    ("events.csv", EVENTS + "clean.wav,3,2,yes,\n", "'yes' from 3 to 2 s"),
    ("events.csv", EVENTS + "clean.wav,2,3,yes,\nclean.wav,,5,yes,\n", "start_s in line 3 is ''"),
    ("events.csv", EVENTS + "clean.wav,2,3,yes,soon\n", "voice_end_s in line 2 is 'soon'"),
    ("events.csv", EVENTS + "clean.wav,2,3,ja,\nclean.wav,5,6,nein,\n", "found ja, nein, expected some of down"),
])
def test_a_bad_folder_is_named(streams: Path, file: str, text: str, message: str, capsys: pytest.CaptureFixture[str]):
    soundfile.write(streams / "fast.wav", np.zeros((12 * 44100, 2), dtype=np.float32), 44100)
    soundfile.write(streams / "short.wav", np.zeros(4000, dtype=np.float32), 16000)
    (streams / file).unlink()
    if text is not None:
        (streams / file).write_text(text)
    assert evaluate(streams) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (streams.parent / "report").exists()


def test_a_stream_that_is_no_stream_is_named(streams: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate(streams, "--timeline", "no.wav") == EXIT_BAD_INPUT
    assert "no.wav: no such stream; there are clean.wav, talk.wav" in capsys.readouterr().err


def test_without_speech_no_threshold_is_chosen(streams: Path, capsys: pytest.CaptureFixture[str]):
    (streams / "manifest.csv").write_text(f"{MANIFEST}clean.wav,12,mixed,en,no\n")
    assert evaluate(streams) == EXIT_OK
    assert "no advice on thresholds" in capsys.readouterr().out
    assert evaluate(streams, "--per-hour", 1) == EXIT_BAD_INPUT
    assert "nothing to choose a threshold on" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "few"])
def test_a_rate_that_cannot_be_is_refused(streams: Path, value: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        evaluate(streams, "--per-hour", value)
    assert "--per-hour" in capsys.readouterr().err


def test_of_a_tracked_model_the_configuration_is_read_first(streams: Path, model: Path, monkeypatch,
                                                            capsys: pytest.CaptureFixture[str]):
    (model.parent / "model.run.json").write_text('{"run_id": "1", "run_name": "a", "weights": "of others"}')
    monkeypatch.chdir(streams.parent)
    assert evaluate(streams, "--model", model) == EXIT_BAD_INPUT
    assert "configs/kws.yaml" in capsys.readouterr().err
    assert evaluate(streams, "--model", model, "--config", ROOT / "configs/kws.yaml") == EXIT_OK


def test_a_pipeline_without_streams_has_nothing_to_measure(tmp_path: Path, streams: Path,
                                                           capsys: pytest.CaptureFixture[str]):
    report, data = tmp_path / "report", tmp_path / "data"
    own = ["--config", str(ROOT / "configs/kws.yaml"), "--set", f"data.root={data}", "--output", str(report)]
    assert main(["evaluate-streams", *own]) == EXIT_OK
    assert f"{data / '_streams_'}: not there: nothing to measure" in capsys.readouterr().out
    assert json.loads((report / "metrics.json").read_text()) == {}
    shutil.copytree(streams, data / "_streams_")
    assert main(["evaluate-streams", *own]) == EXIT_OK
    assert "clean" in json.loads((report / "metrics.json").read_text())["conditions"]
    assert main(["evaluate-streams", str(tmp_path / "absent"), *own]) == EXIT_BAD_INPUT
