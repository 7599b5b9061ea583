import json
import logging
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kws.audio import decode
from kws.data.prepare import RejectedData, prepare
from kws.data.store import load_store
from kws.errors import DataError
from kws.window import fit

SETTINGS = {"keywords": ["yes", "no"], "sample_rate": 16000, "clip_seconds": 1.0, "min_seconds": 0.1,
            "max_seconds": 10.0, "validation_percent": 10.0, "testing_percent": 10.0, "require_noise": True}


def rejected(root, destination, **changes):
    with pytest.raises(RejectedData) as caught:
        prepare(root, destination, **{**SETTINGS, **changes})
    assert not destination.exists() and not list(destination.parent.glob(f".{destination.name}*"))
    return caught.value


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_store_is_exactly_what_the_one_road_makes_of_the_files(corpus, tmp_path):
    root = corpus()
    report = prepare(root, tmp_path / "store", **SETTINGS)
    store = load_store(tmp_path / "store")
    assert len(store.manifest) == len(store.waveforms) == 72
    for row, path in enumerate(store.manifest["path"]):
        np.testing.assert_array_equal(store.waveforms[row] / 32768, fit(decode(root / path, 16000), 16000))
    for name, samples in store.noise.items():
        np.testing.assert_array_equal(samples / 32768, decode(root / "_background_noise_" / name, 16000))
    assert list(store.noise) == ["hum.wav", "rain.wav"]
    assert report.digest == store.digest and report.manifest.equals(store.manifest)


def test_splits_and_labels_are_those_of_the_rule(corpus, tmp_path, speakers):
    prepare(corpus(), tmp_path / "store", **SETTINGS)
    manifest = load_store(tmp_path / "store").manifest
    for split, names in speakers.items():
        assert set(manifest[manifest["split"] == split]["speaker"]) == set(names)
    assert manifest["label"].value_counts().to_dict() == {"yes": 24, "no": 24, "_unknown_": 24}


def test_other_rates_formats_and_windows(corpus, tmp_path):
    root = corpus(suffix=".flac")
    prepare(root, tmp_path / "store", **{**SETTINGS, "sample_rate": 8000, "clip_seconds": 0.5})
    store = load_store(tmp_path / "store")
    assert store.waveforms.shape == (72, 4000) and store.sample_rate == 8000
    expected = fit(decode(root / store.manifest["path"][3], 8000), 4000)
    np.testing.assert_allclose(store.waveforms[3] / 32768, expected, atol=0.51 / 32768)


def test_two_runs_write_the_same_bytes_whatever_the_workers(corpus, tmp_path):
    root = corpus()
    prepare(root, tmp_path / "a", workers=1, **SETTINGS)
    prepare(root, tmp_path / "b", workers=2, **SETTINGS)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_digest_follows_the_content(corpus, tmp_path, noise, wav_bytes):
    root = corpus()
    digests = [prepare(root, tmp_path / "store", **SETTINGS).digest,
               prepare(root, tmp_path / "store", **{**SETTINGS, "clip_seconds": 0.9}).digest]
    (root / "_background_noise_" / "rain.wav").write_bytes(wav_bytes(noise(5, 2.0)))
    digests.append(prepare(root, tmp_path / "store", **SETTINGS).digest)
    assert len(set(digests)) == 3


def test_odd_folder_names_survive(corpus, tmp_path):
    names = ("yes", "no", "null", "NaN", "1", "a,b", 'quote"d', "<b>", " space", "=1+1")
    prepare(corpus(words=names, takes=1), tmp_path / "store", **SETTINGS)
    assert set(load_store(tmp_path / "store").manifest["word"]) == set(names)


def test_all_errors_are_reported_at_once_and_nothing_is_written(corpus, tmp_path, wav_bytes, noise):
    root = corpus()
    (root / "yes" / "empty_nohash_0.wav").write_bytes(b"")
    (root / "no" / "text_nohash_0.wav").write_text("hello")
    (root / "bed" / "dangling_nohash_0.wav").symlink_to("nowhere")
    (root / "bed" / "short_nohash_0.wav").write_bytes(wav_bytes(noise(0, 0.05)))
    (root / "bed" / "long_nohash_0.wav").write_bytes(wav_bytes(noise(0, 11.0)))
    (root / "bed" / "cut_nohash_0.wav").write_bytes(wav_bytes(noise(0, 1.0))[:9999])
    (root / "bed" / "nan_nohash_0.wav").write_bytes(wav_bytes(np.full(16000, np.nan), subtype="FLOAT"))
    (root / "_background_noise_" / "bad.wav").write_bytes(b"bad")
    error = rejected(root, tmp_path / "store")
    assert str(error).splitlines()[0] == f"{root}: 8 error(s) in the recordings; nothing was prepared"
    assert {problem.code for problem in error.report.problems if problem.severity == "error"} == {
        "empty_audio", "unsupported_audio", "not_found", "too_short", "too_long", "truncated_audio", "bad_samples"}
    assert error.report.digest == "" and len(error.report.clips) == 79


def test_an_old_store_outlives_a_failed_run(corpus, tmp_path):
    root = corpus()
    prepare(root, tmp_path / "store", **SETTINGS)
    before = contents(tmp_path / "store")
    (root / "yes" / "x_nohash_0.wav").write_bytes(b"")
    with pytest.raises(RejectedData):
        prepare(root, tmp_path / "store", **SETTINGS)
    assert contents(tmp_path / "store") == before


def test_a_copy_stays_where_it_is_nearest_to_the_test(corpus, tmp_path, speakers, caplog):
    root = corpus()
    train, validate, test = (speakers[split][0] for split in ("training", "validation", "testing"))
    shutil.copy(root / "yes" / f"{validate}_nohash_0.wav", root / "yes" / f"{train}_nohash_0.wav")
    shutil.copy(root / "no" / f"{test}_nohash_0.wav", root / "no" / f"{validate}_nohash_0.wav")
    with caplog.at_level(logging.WARNING):
        report = prepare(root, tmp_path / "store", **SETTINGS)
    left_out = {problem.path for problem in report.problems if problem.code == "copy_left_out"}
    assert left_out == {f"yes/{train}_nohash_0.wav", f"no/{validate}_nohash_0.wav"}
    assert "copy_left_out, 2 times" in caplog.text
    store = load_store(tmp_path / "store")
    assert len(store.manifest) == len(store.waveforms) == 70
    assert not left_out & set(store.manifest["path"])
    for row, path in enumerate(store.manifest["path"]):  # what follows a left-out clip is not shifted
        np.testing.assert_array_equal(store.waveforms[row] / 32768, fit(decode(root / path, 16000), 16000))


def test_lists_that_tear_a_speaker_apart_are_an_error(corpus, tmp_path, speakers):
    root = corpus()
    name = speakers["training"][0]
    (root / "validation_list.txt").write_text("".join(f"{word}/{name}_nohash_0.wav\n" for word in ("yes", "no")))
    assert {problem.code for problem in rejected(root, tmp_path / "store").report.problems
            if problem.severity == "error"} == {"shared_speaker"}


def test_a_keyword_without_validation_clips_is_an_error(corpus, tmp_path):
    error = rejected(corpus(), tmp_path / "store", validation_percent=0.0)
    assert "no: no clips for validation" in str(error)


def test_missing_noise_is_an_error_only_if_it_is_needed(corpus, tmp_path):
    root = corpus()
    shutil.rmtree(root / "_background_noise_")
    with pytest.raises(DataError, match="_background_noise_") as caught:
        prepare(root, tmp_path / "store", **SETTINGS)
    assert caught.value.code == "no_noise"
    prepare(root, tmp_path / "store", **{**SETTINGS, "require_noise": False})
    assert load_store(tmp_path / "store").noise == {}


def test_recordings_and_strangers_are_never_replaced(corpus, tmp_path):
    root = corpus()
    (tmp_path / "file").write_text("mine")
    for destination in (root, tmp_path, root / "yes", tmp_path / "file"):
        with pytest.raises(DataError) as caught:
            prepare(root, destination, **SETTINGS)
        assert caught.value.code == "not_a_store"
    (tmp_path / "store.json").write_text("{}")  # looks like a store, but the recordings are in it
    with pytest.raises(DataError, match="the recordings"):
        prepare(root, tmp_path, **SETTINGS)
    assert len(list(root.glob("*/*.wav"))) == 74


def test_a_full_disk_leaves_nothing_behind(corpus, small_disk):
    with pytest.raises(OSError, match="No space left"):
        prepare(corpus(), small_disk / "store", **SETTINGS)
    assert list(small_disk.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(corpus, tmp_path):
    """A real Ctrl-C, to a process with workers, while it reads."""
    root = corpus(takes=20)
    code = (f"import sys, time, pathlib; from kws.data import prepare, inspection\n"
            f"real = inspection.read_bytes\n"
            f"inspection.read_bytes = lambda *a: (time.sleep(0.005), real(*a))[1]\n"
            f"print('ready', flush=True)\n"
            f"prepare.prepare(pathlib.Path({str(root)!r}), pathlib.Path({str(tmp_path / 'store')!r}), workers=2, "
            f"**{SETTINGS!r})")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".store.*/clips.s16")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors and process.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_warnings_do_not_stop_it(corpus, tmp_path, wav_bytes, noise):
    root = corpus()
    stereo = np.stack([noise(1, 1.0, 44100)] * 2, axis=1)
    (root / "yes" / "x_nohash_0.wav").write_bytes(wav_bytes(stereo, 44100))
    (root / "yes" / "x_nohash_1.wav").write_bytes(wav_bytes(np.zeros(16000)))
    report = prepare(root, tmp_path / "store", **SETTINGS)
    assert [problem.code for problem in report.problems] == ["resampled", "several_channels", "silent"]
    index = json.loads((tmp_path / "store" / "store.json").read_text())
    assert index["labels"] == ["yes", "no", "_unknown_", "_silence_"] and index["num_samples"] == 16000
    row = load_store(tmp_path / "store").manifest.set_index("path").loc["yes/x_nohash_0.wav"]
    assert (row["sample_rate"], row["num_samples"]) == (44100, 44100)
