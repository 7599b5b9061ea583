"""The offline job on real and broken files."""
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pyarrow.parquet
import pytest
import soundfile

import kws
from kws import KeywordSpotter
from kws.__main__ import main
from kws.audio.decode import decode
from kws.errors import AudioError, DataError
from kws.inference.batch.detection_table import DetectionTable
from kws.inference.batch.inputs import list_inputs
from kws.inference.batch.labelling import predict
from kws.inference.batch.summary import Summary
from kws.inference.batch.table import ResumableTable
from kws.inference.runtime import load_runtime
from kws.model.folder import SHIPPED, STREAM_FILE
from kws.model.labels import LabelSet
from kws.model.loading import load_torch_model

LABELS = ["yes", "no", "_unknown_", "_silence_"]
COLUMNS = ["path", "label", "confidence", *LABELS, "start_seconds", "error"]


def encoded(waveform, rate=16000, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, subtype=subtype, format=kind)
    return file.getvalue()


@pytest.fixture
def run(exported):
    def call(source, output, *options):
        return main(["predict", "--input_path", str(source), "--output_path", str(output), "--model", str(exported),
                     *map(str, options)])
    return call


def table_of(tmp_path, spotter, kind):
    return ResumableTable(tmp_path / "p.csv", spotter.labels, kind)


@pytest.fixture
def clips(tmp_path, noise):
    """A folder of ten good clips."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.wav").write_bytes(encoded(noise(number, 0.6 + 0.1 * number)))
    return folder


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table(run, clips, tmp_path, exported, capsys):
    assert run(clips, tmp_path / "preds.csv") == 0
    rows = rows_of(tmp_path / "preds.csv")
    assert list(rows[0]) == COLUMNS and [row["path"] for row in rows] == [f"{number}.wav" for number in range(10)]
    expected = KeywordSpotter(exported).classify(sorted(clips.iterdir()))
    for row, prediction in zip(rows, expected):
        assert row["label"] == prediction.label and row["error"] == ""
        assert float(row["confidence"]) == pytest.approx(prediction.confidence, abs=2e-6)
        assert [float(row[label]) for label in LABELS] == pytest.approx(list(prediction.confidences.values()), abs=2e-6)
    assert "10 rows, 0 errors" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name != "clips"] == ["preds.csv"]


def bad_and_odd(noise):
    """Names, contents and the expected error code; None: it must be answered."""
    good = noise(0, 1.0)
    whole = encoded(good)
    wide = np.stack([good] * 5, axis=1)
    return [
        ("zero.wav", b"", "empty_audio"), ("header.wav", whole[:44], "truncated_audio"),
        ("no samples.wav", encoded(good[:0]), "empty_audio"), ("cut.wav", whole[:3000], "truncated_audio"),
        ("text.wav", b"this is text", "unsupported_audio"), ("8k.wav", encoded(good[:8000], 8000), None),
        ("11k.wav", encoded(good, 11025), None), ("22k.wav", encoded(good, 22050), None),
        ("44k.wav", encoded(good, 44100), None), ("48k.wav", encoded(good, 48000), None),
        ("stereo.wav", encoded(wide[:, :2]), None), ("five.wav", encoded(wide), None),
        ("8 bit.wav", encoded(good, subtype="PCM_U8"), None), ("24 bit.wav", encoded(good, subtype="PCM_24"), None),
        ("32 bit.wav", encoded(good, subtype="PCM_32"), None), ("float.wav", encoded(good, subtype="FLOAT"), None),
        ("double.wav", encoded(good, subtype="DOUBLE"), None), ("a-law.wav", encoded(good, subtype="ALAW"), None),
        ("µ-law.wav", encoded(good, subtype="ULAW"), None),
        ("nan.wav", encoded(np.where(good > 0, np.nan, good), subtype="FLOAT"), "bad_samples"),
        ("infinite.wav", encoded(np.where(good > 0.09, np.inf, good), subtype="FLOAT"), "bad_samples"),
        ("silent.wav", encoded(0 * good), None), ("dc.wav", encoded(0 * good + 0.5), None),
        ("10 ms.wav", encoded(good[:160]), None), ("hour.flac", encoded(np.zeros(3600 * 8000), 8000, kind="FLAC"),
                                                   "too_long"),
        ("really wav.mp3", whole, None), ("really flac.wav", encoded(good, kind="FLAC"), None),
        ("comma, \"quotes\" and ünïcode.wav", whole, None), ("line\nbreak.wav", whole, None),
        ("long.wav", encoded(np.tile(good, 30)), None),
    ]


def test_every_bad_file_is_a_row_among_the_good(run, clips, tmp_path, noise, capsys):
    expected = {f"{number}.wav": None for number in range(10)}
    for name, content, code in bad_and_odd(noise):
        (clips / name).write_bytes(content)
        expected[name] = code
    (clips / "dangling.wav").symlink_to(clips / "gone")
    expected["dangling.wav"] = "not_found"
    os.mkfifo(clips / "pipe.wav")
    expected["pipe.wav"] = "unreadable"
    (clips / "folder.wav").mkdir()
    paths = [*expected, "folder.wav", "missing.wav", "", "0.wav", "x" * 300 + ".wav"]
    expected |= {"folder.wav": "unreadable", "missing.wav": "not_found", "": "unreadable",
                 "x" * 300 + ".wav": "unreadable"}
    pd.DataFrame({"path": paths, "label": ["yes"] * len(paths)}).to_csv(
        clips / "manifest.csv", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    assert run(clips / "manifest.csv", tmp_path / "preds.csv", "--batch_size", 7, "--workers", 3) == 3
    rows = rows_of(tmp_path / "preds.csv")
    assert [row["path"] for row in rows] == paths
    found = {row["path"]: row["error"].partition(":")[0] or None for row in rows}
    assert found == expected
    for row in rows:
        assert (row["label"] in LABELS and row["confidence"]) if not row["error"] else row["label"] == ""
    output = capsys.readouterr().out
    assert "error truncated_audio: 2" in output and f"{len(paths)} rows" in output and "accuracy" in output


def test_mutated_files_are_rows(run, tmp_path, noise):
    folder = tmp_path / "mutated"
    folder.mkdir()
    rng, sources = np.random.default_rng(0), [encoded(noise(0, 0.5)), encoded(noise(1, 0.5), subtype="FLOAT"),
                                              encoded(noise(2, 0.5), 8000, kind="FLAC")]
    for number in range(2000):
        content = bytearray(sources[number % 3])
        for position in rng.integers(0, (60, len(content))[number % 2], rng.integers(1, 8)):
            content[position] = rng.integers(256)
        (folder / f"{number:04}.wav").write_bytes(content[:rng.integers(1, len(content) + 1)]
                                                  if number % 5 == 0 else content)
    assert run(folder, tmp_path / "preds.csv") in (0, 3)
    rows = rows_of(tmp_path / "preds.csv")
    assert [row["path"] for row in rows] == [f"{number:04}.wav" for number in range(2000)]
    assert all(bool(row["label"]) != bool(row["error"]) for row in rows)


def test_a_long_recording_says_where(run, clips, tmp_path, noise):
    (clips / "long.wav").write_bytes(encoded(np.concatenate([np.zeros(32000), noise(0, 1.0), np.zeros(32000)])))
    assert run(clips, tmp_path / "preds.csv") == 0
    starts = {row["path"]: float(row["start_seconds"]) for row in rows_of(tmp_path / "preds.csv")}
    assert 0.0 <= starts["long.wav"] <= 4.0 and starts["0.wav"] == 0.0


def test_labels_add_a_score(run, clips, tmp_path, capsys):
    assert run(clips, tmp_path / "first.csv") == 0
    table = pd.read_csv(tmp_path / "first.csv", dtype=str)
    table["label"] = [*table["label"][:9], "yes" if table["label"][9] != "yes" else "no"]
    table.to_csv(clips / "truth.csv", index=False)
    capsys.readouterr()
    assert run(clips / "truth.csv", tmp_path / "second.csv") == 0
    assert "accuracy 90.00% of 10 rows" in capsys.readouterr().out


def test_other_words_count_as_unknown(run, clips, tmp_path, capsys):
    (clips / "truth.csv").write_text("path,label\n0.wav,bed\n1.wav,null\n")
    assert run(clips / "truth.csv", tmp_path / "preds.csv") == 0
    *_, unknown, silence = capsys.readouterr().out.partition("2 rows with a label")[2].splitlines()[:-1]
    assert [sum(map(int, row.split()[1:])) for row in (unknown, silence)] == [2, 0] and unknown.startswith("_unknown_")


def test_formats_hold_the_same(run, clips, tmp_path):
    (clips / "bad.wav").touch()
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        assert run(clips, tmp_path / name) == 3
    table = rows_of(tmp_path / "p.csv")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    records = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(table) == len(lines) == len(records) == 11 and list(records[0]) == COLUMNS
    for row, line, record in zip(table, lines, records):
        assert row["path"] == line["path"] == record["path"]
        assert (row["label"] or None) == line["label"] == record["label"]
        assert (row["error"] or None) == line["error"] == record["error"]
        assert line["confidences"] == ({} if row["error"] else {label: float(row[label]) for label in LABELS})
        assert row["error"] or record["yes"] == pytest.approx(float(row["yes"]))
    assert run(clips, tmp_path / "named.txt", "--format", "jsonl") == 3
    assert (tmp_path / "named.txt").read_text() == (tmp_path / "p.jsonl").read_text()


def test_a_name_that_is_not_utf8_is_in_every_format(run, clips, tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    (clips / "0.wav").rename(clips / name)
    for kind in ("csv", "jsonl", "parquet"):
        assert run(clips, tmp_path / f"p.{kind}") == 0
    assert b"caf\xe9.wav," in (tmp_path / "p.csv").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert name in [line["path"] for line in lines]
    assert "caf\\udce9.wav" in pyarrow.parquet.read_table(tmp_path / "p.parquet")["path"].to_pylist()


def test_top_k_keeps_the_greatest(run, clips, tmp_path):
    assert run(clips, tmp_path / "preds.csv", "--top_k", 2) == 0
    for row in rows_of(tmp_path / "preds.csv"):
        kept = {label: float(row[label]) for label in LABELS if row[label]}
        assert len(kept) == 2 and max(kept.values()) == float(row["confidence"])


def test_an_empty_manifest_is_an_empty_table(run, tmp_path):
    (tmp_path / "m.csv").write_text("path\n")
    assert run(tmp_path / "m.csv", tmp_path / "preds.csv") == 0
    assert (tmp_path / "preds.csv").read_text().strip() == ",".join(COLUMNS)


@pytest.mark.parametrize("options", [["--threshold", "2"], ["--workers", "0"], ["--top_k", "x"], ["--format", "xml"]])
def test_bad_options_are_explained(run, clips, tmp_path, options):
    with pytest.raises(SystemExit) as ended:
        run(clips, tmp_path / "preds.csv", *options)
    assert ended.value.code == 2


def test_what_only_a_cluster_does_is_said(run, clips, tmp_path, capsys):
    pytest.importorskip("upath")
    for output, options in (("s3://bucket/preds.csv", ()), (tmp_path / "p.csv", ("--detections", "s3://bucket/w.csv"))):
        assert run(clips, output, *options) == 2
        assert "tables elsewhere are written by a cluster; add --ray local" in capsys.readouterr().err
    assert main(["predict", str(clips), "--ray", "local"]) == 2 and "--output_path" in capsys.readouterr().err
    assert run("s3://bucket/preds.csv", "s3://bucket/preds.csv/", "--ray", "local") == 2
    assert "is the input, or another table" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips"]


def test_what_cannot_be_written_is_said_before_the_work(run, clips, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(clips, tmp_path / "file/preds.csv") == 2
    assert run(clips, clips) == 2
    (clips / "m.csv").write_text("path\n0.wav\n")
    assert run(clips / "m.csv", clips / "m.csv") == 2
    assert (clips / "m.csv").read_text() == "path\n0.wav\n"
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and "is the input" in errors
    assert run(clips, tmp_path / "new/folder/preds.csv") == 0


def test_a_pipe_is_no_table(run, clips, tmp_path, capsys):
    """Nor is /dev/stdout, which root could replace."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    assert run(clips, pipe) == 2 and main(["predict", str(pipe)]) == 2
    with pytest.raises(FileExistsError, match="pipe or device"), DetectionTable(pipe):
        pass
    assert capsys.readouterr().err.count("pipe or device") == 2
    assert pipe.is_fifo() and sorted(path.name for path in tmp_path.iterdir()) == ["clips", "pipe.csv"]


def test_without_a_model_it_says_so(clips, tmp_path, capsys):
    assert main(["predict", "--input_path", str(clips), "--output_path", str(tmp_path / "p.csv"), "--model",
                 str(tmp_path / "absent")]) == 2
    assert "absent: no config.json" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 kB."""
    mount = tmp_path / "full"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_a_full_disk_is_said_and_can_be_resumed(run, clips, full_disk, capsys):
    (clips / "m.csv").write_text("path\n" + "0.wav\n" * 3000)
    assert run(clips / "m.csv", full_disk / "preds.csv") == 2
    assert "preds.csv.part: No space left on device; --resume goes on" in capsys.readouterr().err
    assert [path.name for path in sorted(full_disk.iterdir())] == ["preds.csv.part", "preds.csv.part.json"]


def interrupted_after(spotter, batches):
    """A spotter that is interrupted in its n-th batch."""
    class Interrupted:
        labels, calls = spotter.labels, 0

        def classify(self, *args, **kwargs):
            self.calls += 1
            if self.calls > batches:
                raise KeyboardInterrupt
            return spotter.classify(*args, **kwargs)
    return Interrupted()


@pytest.mark.parametrize("damage", [b"", b"6.wav,yes,0.9", b'"half a na', b"6.wav,yes,0.9,0.1,0.1,0.1,0.1,0,not_f"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_interrupted_prediction_is_resumed(exported, clips, tmp_path, damage, kind):
    spotter, rows = KeywordSpotter(exported), list_inputs(clips)
    with pytest.raises(KeyboardInterrupt):
        predict(interrupted_after(spotter, 3), rows, table_of(tmp_path, spotter, kind), batch_size=2)
    part = tmp_path / "p.csv.part"
    assert len(rows_of(part)) == 6 and not (tmp_path / "p.csv").exists()
    part.write_bytes(part.read_bytes() + damage)
    counted = []

    class Counting:
        labels = spotter.labels

        def classify(self, paths, *args, **kwargs):
            counted.extend(paths)
            return spotter.classify(paths, *args, **kwargs)
    summary = predict(Counting(), rows, table_of(tmp_path, spotter, kind), batch_size=2, resume=True)
    predict(spotter, rows, ResumableTable(tmp_path / "whole.csv", spotter.labels, kind), batch_size=2)
    assert (tmp_path / "p.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert len(counted) == 4
    assert summary.rows == 10 and sum(summary.answers.values()) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "p.csv", "whole.csv"]


def test_what_was_written_for_other_rows_is_not_resumed(exported, clips, tmp_path):
    spotter = KeywordSpotter(exported)
    with pytest.raises(KeyboardInterrupt):
        predict(interrupted_after(spotter, 2), list_inputs(clips), ResumableTable(tmp_path / "p.csv", spotter.labels),
                batch_size=2)
    before = (tmp_path / "p.csv.part").read_bytes()
    (clips / "0.wav").rename(clips / "00.wav")
    with pytest.raises(DataError, match="another input"):
        predict(spotter, list_inputs(clips), ResumableTable(tmp_path / "p.csv", spotter.labels), resume=True)
    assert (tmp_path / "p.csv.part").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "p.csv.part", "p.csv.part.json"]


@pytest.fixture
def begun(exported, run, clips, tmp_path):
    """A prediction of six of the ten clips, interrupted, with threshold 0.5 and top_k 2; the command that goes on."""
    runtime = load_runtime(exported, threads=1)
    spotter = KeywordSpotter(runtime)
    settings = {"version": kws.__version__, "model": runtime.digest, "threshold": 0.5}
    table = ResumableTable(tmp_path / "p.csv", spotter.labels, "csv", 2, settings)
    with pytest.raises(KeyboardInterrupt):
        predict(interrupted_after(spotter, 3), list_inputs(clips), table, 0.5, batch_size=2)
    assert len(rows_of(tmp_path / "p.csv.part")) == 6

    def resume(*options, source=clips):
        return run(source, tmp_path / "p.csv", "--threshold", 0.5, "--top_k", 2, "--resume", *options)
    return resume


def kept(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("options, named", [
    (["--threshold", "0.6"], "threshold 0.5, now 0.6"), (["--top_k", "3"], "top_k 2, now 3"),
    (["--runtime", "torch"], "model onnx "),
])
def test_other_settings_do_not_resume(begun, tmp_path, capsys, options, named):
    before = kept(tmp_path)
    assert begun(*options) == 2
    assert named in capsys.readouterr().err and kept(tmp_path) == before
    assert begun() == 0


def test_another_model_of_the_same_labels_does_not_resume(begun, exported, tmp_path, capsys):
    before, other = kept(tmp_path), tmp_path / "other"
    shutil.copytree(exported, other)
    assert begun("--model", other) == 0, "a folder that was copied is the same model"
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    model = onnx.load(other / "model.onnx")
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, other / "model.onnx")
    assert begun("--model", other) == 2
    assert "begun with model onnx " in capsys.readouterr().err


def test_rows_are_of_the_recordings_that_were_heard(begun, run, clips, tmp_path, capsys):
    before = kept(tmp_path)
    (clips / "2.wav").write_bytes((clips / "9.wav").read_bytes())
    assert begun() == 2 and "2.wav' is of another recording" in capsys.readouterr().err and kept(tmp_path) == before
    assert run(clips, tmp_path / "p.csv") == 0, "without --resume it begins anew"
    assert len(rows_of(tmp_path / "p.csv")) == 10


def test_other_recordings_of_the_same_names_do_not_resume(begun, clips, tmp_path, noise, capsys):
    clips.rename(tmp_path / "moved")
    clips.mkdir()
    for number in range(10):
        (clips / f"{number}.wav").write_bytes(encoded(noise(50 + number, 0.6 + 0.1 * number)))
    assert begun() == 2 and "0.wav' is of another recording" in capsys.readouterr().err
    assert begun(source=tmp_path / "moved") == 0, "the same recordings, wherever they are now"
    assert len(rows_of(tmp_path / "p.csv")) == 10


def test_a_recording_that_comes_back_is_not_left_an_error(exported, clips, tmp_path):
    (clips / "m.csv").write_text("path\n" + "".join(f"{number}.wav\n" for number in range(10)))
    spotter, rows, content = KeywordSpotter(exported), list_inputs(clips / "m.csv"), (clips / "1.wav").read_bytes()
    (clips / "1.wav").unlink()
    with pytest.raises(KeyboardInterrupt):
        predict(interrupted_after(spotter, 3), rows, table_of(tmp_path, spotter, "csv"), batch_size=2)
    assert rows_of(tmp_path / "p.csv.part")[1]["error"].startswith("not_found")
    (clips / "1.wav").write_bytes(content)
    with pytest.raises(DataError, match="its row for '1.wav' is of another recording"):
        predict(spotter, rows, table_of(tmp_path, spotter, "csv"), resume=True)


def test_a_manifest_may_grow_but_its_rows_stay(begun, clips, tmp_path, capsys):
    names = [f"{number}.wav" for number in range(10)]
    (clips / "grown.csv").write_text("path\n" + "\n".join([*names, "0.wav"]) + "\n")
    (clips / "swapped.csv").write_text("path\n" + "\n".join(["1.wav", "0.wav", *names[2:]]) + "\n")
    assert begun(source=clips / "swapped.csv") == 2 and "another input" in capsys.readouterr().err
    assert begun(source=clips / "grown.csv") == 0
    assert [row["path"] for row in rows_of(tmp_path / "p.csv")] == [*names, "0.wav"]


@pytest.mark.parametrize("side", [None, b"", b"{", b"[1]\n", b'{"program": "another"}\n'])
@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_what_is_not_ours_is_not_taken(run, clips, tmp_path, capsys, side, options):
    (tmp_path / "p.csv.part").write_text("somebody's")
    if side is not None:
        (tmp_path / "p.csv.part.json").write_bytes(side)
        options = ["--resume"]
    before = kept(tmp_path)
    assert run(clips, tmp_path / "p.csv", *options) == 2
    assert "p.csv.part" in capsys.readouterr().err and kept(tmp_path) == before


def test_two_predictions_do_not_write_one_table(run, exported, clips, tmp_path, capsys):
    spotter = KeywordSpotter(exported)
    with ResumableTable(tmp_path / "p.csv", spotter.labels) as table:
        table.start()
        for options in ([], ["--resume"]):
            before = kept(tmp_path)
            assert run(clips, tmp_path / "p.csv", *options) == 2
            assert "p.csv: another prediction is writing it" in capsys.readouterr().err
            assert kept(tmp_path) == before
        assert run(clips, tmp_path / "other.csv") == 0
    assert run(clips, tmp_path / "p.csv") == 0
    assert sorted(kept(tmp_path)) == ["other.csv", "p.csv"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_prediction_killed_at_any_step_can_be_resumed(exported, clips, tmp_path, monkeypatch):
    """At every line of the table, begun anew and resumed: what is finished equals what was never interrupted."""
    rows, real = list_inputs(clips), KeywordSpotter(exported)
    answers = dict(zip([row.location for row in rows], real.classify([row.location for row in rows])))

    class Remembering:  # ONNX Runtime does not survive a fork
        labels = real.labels

        def classify(self, paths, threshold, names):
            return [answers[path] for path in paths]

    def work(path, resume):
        predict(Remembering(), rows, ResumableTable(path, real.labels, "jsonl"), batch_size=4, resume=resume)

    monkeypatch.setattr(os, "fsync", lambda handle: None)
    work(tmp_path / "whole.jsonl", False)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    for step in range(0, 3000, 29):
        path = tmp_path / "p.jsonl"
        path.unlink(missing_ok=True)
        was_killed = killed_at_line(step, "table.py", partial(work, path, False))
        killed_at_line(step // 2, "table.py", partial(work, path, True))
        assert not path.exists() or path.read_bytes() == whole, step
        work(path, True)
        assert path.read_bytes() == whole and sorted(kept(tmp_path)) == ["p.jsonl", "whole.jsonl"], step
        if not was_killed:
            break
    assert step > 100


def killed_at_line(step, module, work):
    """Run work in a process that SIGKILLs itself at its n-th line of a module; tell whether it got there."""
    process = os.fork()
    if not process:
        lines = iter(range(step))

        def trace(frame, event, argument):
            if os.path.basename(frame.f_code.co_filename) != module:
                return None
            if event == "line" and next(lines, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def test_keywords_may_be_called_like_our_columns(clips, tmp_path):
    words = ["path", "label", "confidence", "error", "start_seconds", "label:path", "a,b", 'say "hi"', "two\nlines",
             "=1"]
    labels = LabelSet.from_keywords(words)
    columns = ["label:path", "label:label", "label:confidence", "label:error", "label:start_seconds",
               "label:label:path", *words[6:], "_unknown_", "_silence_"]
    generator = np.random.default_rng(0)

    class Runtime:
        sample_rate = num_samples = 16000

        def logits(self, waveforms):
            return generator.normal(size=(len(waveforms), len(labels))).astype(np.float32)

    Runtime.labels = labels
    (clips / "bad.wav").touch()
    rows = list_inputs(clips)
    answers = KeywordSpotter(Runtime()).classify([row.location for row in rows])
    for kind in ("csv", "jsonl", "parquet"):
        with ResumableTable(tmp_path / f"p.{kind}", labels, kind) as table:
            table.start()
            table.write(list(rows), answers)
            summary = Summary(labels)
            for row, done in zip(rows, table.resume(iter(rows))):
                summary.add_written(row, done)
            assert summary.rows == 11 and summary.errors.total() == 1 and summary.answers.total() == 10
            table.finish()
    table = rows_of(tmp_path / "p.csv")
    assert list(table[0]) == ["path", "label", "confidence", *columns, "start_seconds", "error"]
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    records = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    for row, line, record, listed, answer in zip(table, lines, records, rows, answers):
        assert row["path"] == line["path"] == record["path"] == listed.path
        if isinstance(answer, AudioError):
            assert row["label"] == "" and row["error"].startswith("empty_audio: ") and record["error"] == row["error"]
            continue
        assert row["label"] == line["label"] == record["label"] == answer.label
        expected = list(answer.confidences.values())
        assert [float(row[name]) for name in columns] == pytest.approx(expected, abs=1e-6)
        assert [record[name] for name in columns] == pytest.approx(expected, abs=1e-6)
        assert [line["confidences"][label] for label in labels] == pytest.approx(expected, abs=1e-6)


def test_resuming_nothing_is_starting(run, clips, tmp_path):
    assert run(clips, tmp_path / "preds.csv", "--resume") == 0
    assert len(rows_of(tmp_path / "preds.csv")) == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_leaves_a_table_that_resumes(exported, clips, tmp_path, number):
    (clips / "m.csv").write_text("path\n" + "".join(f"{row % 10}.wav\n" for row in range(200_000)))
    command = [sys.executable, "-m", "kws.predict", "--input_path", clips / "m.csv", "--output_path",
               tmp_path / "p.csv", "--model", exported]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "p.csv.part"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 20_000):
        time.sleep(0.05)
    process.send_signal(number)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in message and "interrupted" in message
    assert not (tmp_path / "p.csv").exists()
    done = len(rows_of(part))
    assert 0 < done < 200_000
    (clips / "m.csv").write_text("path\n" + "".join(f"{row % 10}.wav\n" for row in range(done + 5)))
    assert subprocess.run([*command, "--resume"], capture_output=True).returncode == 0
    assert [row["path"] for row in rows_of(tmp_path / "p.csv")] == [f"{row % 10}.wav" for row in range(done + 5)]


def test_labels_equal_the_pytorch_models(exported, real_speech, run, tmp_path):
    """On real recordings, clip by clip."""
    import torch

    from kws.model.window import pad_or_crop

    names = (real_speech / "validation_list.txt").read_text().split()[:200]
    paths = [Path(name).with_suffix(".flac") for name in names]
    pd.DataFrame({"path": [str(real_speech / path) for path in paths]}).to_csv(tmp_path / "m.csv", index=False)
    assert run(tmp_path / "m.csv", tmp_path / "preds.csv") == 0
    model = load_torch_model(exported)
    windows = np.stack([pad_or_crop(decode(real_speech / path, 16000), 16000) for path in paths])
    with torch.inference_mode():
        expected = model(torch.from_numpy(windows)).logits.softmax(dim=1).numpy()
    rows = rows_of(tmp_path / "preds.csv")
    found = np.array([[float(row[label]) for label in LABELS] for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [row["label"] for row in rows] == [LABELS[index] for index in expected.argmax(axis=1)]


def test_a_table_that_was_killed_before_its_first_line_is_begun_anew(exported, clips, tmp_path):
    spotter = KeywordSpotter(exported)
    with table_of(tmp_path, spotter, "csv") as table:
        table.start()
    table.part.write_bytes(b"")
    (tmp_path / "p.csv.part.json").write_text("")
    predict(spotter, list_inputs(clips), table_of(tmp_path, spotter, "csv"), resume=True)
    assert len(rows_of(tmp_path / "p.csv")) == 10


def test_without_a_table_rows_are_printed(exported, clips, tmp_path, capsys):
    (clips / "broken\n.wav").write_bytes(b"")
    shutil.copy(clips / "0.wav", clips / "a\nb.wav")
    assert main(["predict", str(clips), str(clips / "0.wav"), "--model", str(exported)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13 and sum(line.startswith("error") for line in lines) == 1
    assert main(["predict", str(clips / "0.wav"), "--model", str(exported), "--format", "jsonl", "--top_k", "1"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    expected = KeywordSpotter(exported)(clips / "0.wav")
    assert (row["path"], row["label"], len(row["confidences"])) == ("0.wav", expected.label, 1)


@pytest.mark.parametrize("arguments, told", [
    ([], "no input"), (["a.wav", "--resume"], "--output_path"), (["a.wav", "--format", "csv"], "--output_path"),
    (["a.wav", "--top_k", "1"], "--format jsonl")])
def test_what_cannot_be_predicted_or_printed_is_one_line(arguments, told, capsys):
    assert main(["predict", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture
def long_ones(tmp_path):
    """A folder of recordings longer than the window, a clip, and something that is no recording."""
    folder = tmp_path / "long ones"
    folder.mkdir()
    sample = Path("docs/samples/five-words.flac").read_bytes()
    clip, silence = Path("docs/samples/yes.flac").read_bytes(), encoded(np.zeros(32000))
    for name, content in (("a.flac", sample), ("b.wav", b""), ("c.wav", silence), ("d, d.flac", sample),
                          ("e.flac", clip), ("f.flac", sample)):
        (folder / name).write_bytes(content)
    return folder


def predict_long(folder, *options, model=SHIPPED):
    return main(["predict", str(folder), "--model", str(model), *map(str, options)])


def test_every_keyword_of_long_recordings_is_in_a_table_of_its_own(long_ones, tmp_path, capsys):
    out, words = tmp_path / "p.csv", tmp_path / "words.csv"
    assert predict_long(long_ones, "--output_path", out, "--detections", words) == 3
    assert f"{words}: written" in capsys.readouterr().out
    answer = KeywordSpotter(SHIPPED, threads=1)(long_ones / "a.flac")
    expected = [{**{name: str(value) for name, value in found.as_record().items()},
                 "confidence": f"{found.confidence:.6f}"} for found in answer.detections]
    assert rows_of(words) == [{"path": name, **row} for name in ("a.flac", "d, d.flac", "f.flac") for row in expected]
    assert len(expected) >= 2
    rows = {row["path"]: row for row in rows_of(out)}
    assert rows["a.flac"]["label"] == answer.label and float(rows["a.flac"]["start_seconds"]) == answer.start_seconds
    assert rows["c.wav"]["label"] == "_silence_" and rows["e.flac"]["label"] == "yes" and rows["b.wav"]["error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long ones", "p.csv", "words.csv"]


@pytest.mark.parametrize("batches", [0, 1, 2, 4])
@pytest.mark.parametrize("tail", [b"", b"e.flac,yes,0.1,0.5,"])
def test_both_tables_are_resumed(long_ones, tmp_path, monkeypatch, batches, tail):
    options = ["--output_path", tmp_path / "p.csv", "--detections", tmp_path / "words.csv", "--batch_size", 1]
    assert predict_long(long_ones, *options) == 3
    expected = kept(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()
    classify, calls = KeywordSpotter.classify, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) > batches:
            raise KeyboardInterrupt
        return classify(*args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(KeywordSpotter, "classify", interrupted)
        assert predict_long(long_ones, *options, "--workers", 1) == 130
    with open(tmp_path / "words.csv.part", "ab") as file:
        file.write(tail)
    assert not (tmp_path / "words.csv").exists()
    assert predict_long(long_ones, *options, "--resume") == 3
    assert kept(tmp_path) == expected


def test_detections_that_were_lost_are_found_again(long_ones, tmp_path, monkeypatch):
    options = ["--output_path", tmp_path / "p.csv", "--detections", tmp_path / "words.csv"]
    assert predict_long(long_ones, *options) == 3
    expected = kept(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ResumableTable, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert predict_long(long_ones, *options) == 130
    os.truncate(tmp_path / "words.csv.part", 100)
    assert predict_long(long_ones, *options, "--resume") == 3 and kept(tmp_path) == expected


def test_a_table_of_detections_belongs_to_its_prediction(long_ones, tmp_path, monkeypatch, capsys):
    options = ["--output_path", tmp_path / "p.csv"]
    with monkeypatch.context() as patch:
        patch.setattr(ResumableTable, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert predict_long(long_ones, *options, "--detections", tmp_path / "words.csv") == 130
    before = kept(tmp_path)
    for other in ([], ["--detections", tmp_path / "other.csv"]):
        assert predict_long(long_ones, *options, *other, "--resume") == 2
        assert "begun with detections" in capsys.readouterr().err and kept(tmp_path) == before


def test_another_model_for_running_sound_does_not_resume(long_ones, tmp_path, monkeypatch, capsys):
    model = shutil.copytree(SHIPPED, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr(ResumableTable, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert predict_long(long_ones, "--output_path", tmp_path / "p.csv", model=model) == 130
    proto = onnx.load(model / STREAM_FILE)
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**entries, "version": "other"})
    onnx.save(proto, model / STREAM_FILE)
    assert predict_long(long_ones, "--output_path", tmp_path / "p.csv", "--resume", model=model) == 2
    assert "begun with model onnx " in capsys.readouterr().err


@pytest.mark.parametrize("options, told", [
    (["--detections", "d.csv"], "add --output_path"), (["--output_path", "p.csv", "--detections", "d.jsonl"], ".csv"),
    (["--output_path", "p.csv", "--detections", "p.csv"], "another file"),
    (["--output_path", "p.csv", "--detections", "in/a.csv"], "is the input")])
def test_a_table_of_detections_that_cannot_be_is_refused(tmp_path, monkeypatch, capsys, options, told):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("path\n")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "in/a.csv", *options]) == 2
    assert told in capsys.readouterr().err and os.listdir(tmp_path) == ["in"]


def test_a_model_of_clips_only_detects_nothing(run, clips, tmp_path, capsys):
    assert run(clips, tmp_path / "p.csv", "--detections", tmp_path / "words.csv") == 2
    assert "stream.onnx" in capsys.readouterr().err and os.listdir(tmp_path) == ["clips"]


def test_what_is_no_table_of_detections_is_left_alone(long_ones, tmp_path, capsys):
    (tmp_path / "words.csv.part").write_text("my own words")
    assert predict_long(long_ones, "--output_path", tmp_path / "p.csv", "--detections", tmp_path / "words.csv") == 2
    assert "words.csv.part" in capsys.readouterr().err
    assert kept(tmp_path) == {"words.csv.part": b"my own words"}


def test_long_recordings_are_told_on_the_terminal(long_ones, capsys):
    assert predict_long(long_ones, "--format", "jsonl") == 3
    rows = {row["path"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert [found["word"] for found in rows["a.flac"]["detections"]] and rows["c.wav"]["detections"] == []
    assert "detections" not in rows["e.flac"]
