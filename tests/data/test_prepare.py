import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from kws.audio.decode import Limits, decode
from kws.data.layout import SPEAKER_PATTERN
from kws.data.prepare import RejectedData, prepare
from kws.data.store import load_store
from kws.errors import DataError
from kws.model.window import loudest_start, pad_or_crop

SETTINGS = {"keywords": ["yes", "no"], "sample_rate": 16000, "clip_seconds": 1.0, "min_seconds": 0.1,
            "max_seconds": 10.0, "speaker_pattern": SPEAKER_PATTERN, "split_by": "speaker", "validation_percent": 10.0,
            "testing_percent": 10.0, "require_noise": True}


def rejected(root, destination, **changes):
    with pytest.raises(RejectedData) as caught:
        prepare(root, destination, **{**SETTINGS, **changes})
    assert not destination.exists() and not list(destination.parent.glob(f".{destination.name}*"))
    return caught.value


def window_of(path, sample_rate, num_samples):
    """What the model is to hear of a file: all of it, centred, or its loudest part."""
    waveform = decode(path, sample_rate)
    start = loudest_start(waveform, num_samples)
    return pad_or_crop(waveform[start:start + num_samples], num_samples)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_store_is_exactly_what_the_one_road_makes_of_the_files(corpus, tmp_path):
    root = corpus()
    report = prepare(root, tmp_path / "store", **SETTINGS)
    store = load_store(tmp_path / "store")
    assert len(store.manifest) == len(store.waveforms) == 72
    for row, path in enumerate(store.manifest["path"]):
        np.testing.assert_array_equal(store.waveforms[row] / 32768, window_of(root / path, 16000, 16000))
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
    expected = window_of(root / store.manifest["path"][3], 8000, 4000)
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
        np.testing.assert_array_equal(store.waveforms[row] / 32768, window_of(root / path, 16000, 16000))


def test_lists_that_tear_a_speaker_apart_are_an_error(corpus, tmp_path, speakers):
    root = corpus()
    name = speakers["training"][0]
    (root / "validation_list.txt").write_text("".join(f"{word}/{name}_nohash_0.wav\n" for word in ("yes", "no")))
    assert {problem.code for problem in rejected(root, tmp_path / "store").report.problems
            if problem.severity == "error"} == {"shared_speaker"}


def test_lists_may_part_clips_whose_speaker_is_not_known(corpus, tmp_path):
    root = corpus()
    for path in [*root.glob("[!_]*/*.wav")]:
        path.rename(path.with_name(path.name.replace("_nohash", "")))
    first, second = sorted(path.name for path in (root / "yes").iterdir())[:2]
    (root / "validation_list.txt").write_text(f"yes/{first}\nno/{second}\n")
    prepare(root, tmp_path / "store", **SETTINGS)
    validation = load_store(tmp_path / "store").split("validation")
    assert set(validation["path"]) == {f"yes/{first}", f"no/{second}"}


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
    while not list(tmp_path.glob("store.part/clips.s16")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors and process.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_interrupt_between_the_clips_and_their_manifest_loses_no_clip(corpus, tmp_path, monkeypatch, caplog):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    root = corpus()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kws.data.prepare.write_index", interrupted)
        prepare(root, tmp_path / "store", **SETTINGS)
    caplog.set_level(logging.INFO)
    prepare(root, tmp_path / "store", **SETTINGS)
    assert "goes on after 72 of 72 clips" in caplog.text
    prepare(root, tmp_path / "whole", **SETTINGS)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_warnings_do_not_stop_it(corpus, tmp_path, wav_bytes, noise):
    root = corpus()
    stereo = np.stack([noise(1, 1.0, 44100)] * 2, axis=1)
    (root / "yes" / "x_nohash_0.wav").write_bytes(wav_bytes(stereo, 44100))
    (root / "yes" / "x_nohash_1.wav").write_bytes(wav_bytes(np.zeros(16000)))
    report = prepare(root, tmp_path / "store", **SETTINGS)
    assert [problem.code for problem in report.problems] == [
        "resampled", "several_channels", "above_band", "silent"]  # white noise: most of it is above 8 kHz
    index = json.loads((tmp_path / "store" / "store.json").read_text())
    assert index["labels"] == ["yes", "no", "_unknown_", "_silence_"] and index["num_samples"] == 16000
    row = load_store(tmp_path / "store").manifest.set_index("path").loc["yes/x_nohash_0.wav"]
    assert (row["sample_rate"], row["num_samples"]) == (44100, 44100)


@pytest.mark.parametrize("at", [0.0, 1.0, 2.3])
def test_the_word_is_in_the_window_of_a_long_recording(corpus, tmp_path, tone, noise, at):
    root = corpus()
    path = root / "yes" / "0000cae4_nohash_0.wav"
    waveform = noise(7, 3.0, amplitude=0.003)
    start = round(at * 16000)
    word = tone(700.0, 0.6)
    waveform[start:start + len(word)] += word
    soundfile.write(path, waveform, 16000)
    report = prepare(root, tmp_path / "store", **SETTINGS)
    store = load_store(tmp_path / "store")
    heard = store.waveforms[store.manifest["path"].tolist().index("yes/0000cae4_nohash_0.wav")] / 32768
    assert np.square(heard).sum() > 0.98 * np.square(decode(path, 16000)).sum()
    assert not report.problems
    np.testing.assert_array_equal(heard, window_of(path, 16000, 16000))


def test_a_recording_that_does_not_fit_into_the_window_is_told(corpus, tmp_path, tone):
    root = corpus()
    soundfile.write(root / "yes" / "0000cae4_nohash_0.wav", tone(700.0, 3.0), 16000)
    problem, = prepare(root, tmp_path / "store", **SETTINGS).problems
    assert (problem.code, problem.path) == ("cropped", "yes/0000cae4_nohash_0.wav")
    assert "3.00 s; the window from 1.00 s on is kept, and 67% of the sound is outside of it" in problem.message


def test_what_is_passed_over_is_told_and_deeper_clips_count(corpus, tmp_path, caplog):
    root = corpus(takes=4)
    for path in list(root.glob("yes/*_1.wav")):
        path.rename(path.with_suffix(".xyz"))
    (root / "yes" / "deeper").mkdir()
    for path in list(root.glob("yes/*_2.wav")):
        path.rename(path.parent / "deeper" / path.name)
    report = prepare(root, tmp_path / "store", **SETTINGS)
    assert f"passed_over: {root}: 12 files were passed over: 12 .xyz" in caplog.text
    assert report.passed_over == {".xyz": 12}
    manifest = load_store(tmp_path / "store").manifest
    assert (manifest["word"] == "yes").sum() == 36 and manifest["path"].str.startswith("yes/deeper/").sum() == 12
    assert set(manifest[manifest["word"] == "yes"]["speaker"]) == set(manifest["speaker"])


def test_two_folders_of_one_word_are_one_word(corpus, tmp_path):
    root = corpus(words=("zwo\u0308lf", "no", "bed"))
    shutil.copytree(root / "zwo\u0308lf", root / "zw\u00f6lf")
    for path in (root / "zw\u00f6lf").iterdir():
        path.rename(path.with_name(path.name.replace("nohash_", "nohash_1")))
    prepare(root, tmp_path / "store", **{**SETTINGS, "keywords": ["zw\u00f6lf", "no"]})
    store = load_store(tmp_path / "store")
    assert store.labels.keywords == ("zw\u00f6lf", "no")
    assert store.manifest["label"].value_counts().to_dict() == {"zw\u00f6lf": 48, "no": 24, "_unknown_": 24}


ANY_WORDS = ("path", "label", "error", "null", "None", "NaN", "true", "1", "a,b", 'quote"d', "a=b", "=1+1", "😀", "nul",
             "x" * 255, "$x^2$", "<b>", "split", " space ", "back\\slash", "\u2028")


def test_a_keyword_may_be_called_anything(corpus, tmp_path):
    prepare(corpus(words=(*ANY_WORDS, "bed"), takes=1), tmp_path / "store", **{**SETTINGS, "keywords": ANY_WORDS})
    store = load_store(tmp_path / "store")
    assert store.labels.keywords == ANY_WORDS
    assert store.manifest["label"].value_counts().to_dict() == dict.fromkeys((*ANY_WORDS, "_unknown_"), 12)


def corpus_of(corpus, speakers, takes=10):
    """Recordings of a few people."""
    root = corpus(takes=1)
    for path in list(root.glob("[yn]*/*.wav")) + list(root.glob("bed/*.wav")):
        path.unlink()
    rng = np.random.default_rng(0)
    for word in ("yes", "no", "bed"):
        for speaker in speakers:
            for take in range(takes):
                soundfile.write(root / word / f"{speaker}_nohash_{take}.wav", 0.1 * rng.standard_normal(8000), 16000)
    return root


def advice(error, key):
    """The setting that an error advises, as its line says it."""
    line = next(line for line in str(error).splitlines() if f"data.{key}=" in line)
    return line.partition(f"data.{key}=")[2].partition(",")[0].split(" ")[0]


def test_one_voice_is_trained_by_following_the_advice(corpus, tmp_path, caplog):
    root = corpus_of(corpus, ["me"])
    error = rejected(root, tmp_path / "store")
    assert "All of its 10 clips are of one speaker (me)" in str(error)
    report = prepare(root, tmp_path / "store", **{**SETTINGS, "split_by": advice(error, "split_by")})
    assert report.manifest.groupby(["word", "split"]).size().unstack().loc["yes"].to_dict() == {
        "training": 8, "validation": 1, "testing": 1}
    assert "figures hold for these voices only" in caplog.text


def test_a_list_that_tears_ones_own_voice_apart_is_trained_by_following_the_advice(corpus, tmp_path):
    root = corpus_of(corpus, ["me"])
    (root / "validation_list.txt").write_text("yes\\me_nohash_3.wav\nno\\me_nohash_3.wav\n")
    error = rejected(root, tmp_path / "store")
    report = prepare(root, tmp_path / "store", **{**SETTINGS, "split_by": advice(error, "split_by")})
    assert (report.manifest["split"] == "validation").sum() == 2


@pytest.mark.parametrize("speakers", [("anna", "bert"), ("ann", "bob", "cem"), ("a", "b"), ("x1", "x2", "x3", "x4")])
def test_the_advice_for_few_people_leads_to_a_store(corpus, tmp_path, speakers):
    root = corpus_of(corpus, speakers, takes=3)
    settings = dict(SETTINGS)
    for _ in range(3):  # at most: the percentage, then the split
        try:
            report = prepare(root, tmp_path / "store", **settings)
            break
        except RejectedData as error:
            key = "validation_percent" if "data.validation_percent=" in str(error) else "split_by"
            value = advice(error, key)
            settings[key] = float(value) if key == "validation_percent" else value
    counts = report.manifest.groupby(["label", "split"]).size()
    for keyword in ("yes", "no"):
        assert counts[keyword, "training"] and counts[keyword, "validation"]


def test_lists_without_a_keyword_are_the_reason_that_is_given(corpus, tmp_path):
    root = corpus()
    (root / "validation_list.txt").write_text("bed/00004f28_nohash_0.wav\nbed/00004f28_nohash_1.wav\n")
    error = rejected(root, tmp_path / "store")
    assert "yes: no clips for validation" in str(error)
    assert "validation_list.txt and testing_list.txt decide" in str(error) and "percent" not in str(error)
    (root / "validation_list.txt").unlink()
    prepare(root, tmp_path / "store", **SETTINGS)


def test_too_short_and_too_long_clips_are_taken_by_following_the_advice(corpus, tmp_path, noise):
    root = corpus()
    soundfile.write(root / "yes" / "0000cae4_nohash_0.wav", noise(0, 0.05), 16000)
    soundfile.write(root / "yes" / "0000cae4_nohash_1.wav", noise(0, 70.0, 8000, 0.1), 8000)
    error = rejected(root, tmp_path / "store")
    assert "lower that" in str(error) and "raise data.max_seconds" in str(error)
    prepare(root, tmp_path / "store", **{**SETTINGS, "min_seconds": 0.04, "max_seconds": 80.0})


@pytest.mark.parametrize("rate, channels, suffix, blocks", [(16000, 1, ".wav", 66), (44100, 2, ".flac", 7)])
def test_long_background_recordings_are_taken_in_little_memory(corpus, tmp_path, rate, channels, suffix, blocks):
    root = corpus()
    rng = np.random.default_rng(0)
    path = root / "_background_noise_" / f"long{suffix}"
    block = (0.1 * rng.standard_normal((10 * rate, channels))).clip(-1, 1)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for _ in range(blocks):
            file.write(block)
    tracemalloc.start()
    report = prepare(root, tmp_path / "store", workers=1, **SETTINGS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # 660 s as float32 are 42 MB, and no step would hold them once only
    store = load_store(tmp_path / "store")
    heard = store.noise[f"long{suffix}"] / np.float32(32768)
    expected = decode(path, 16000, Limits(max_seconds=1000))
    np.testing.assert_allclose(heard, expected, atol=1.01 / 32768)
    row = report.noise.set_index("path").loc[f"_background_noise_/long{suffix}"]
    assert (row["seconds"], row["channels"], row["sample_rate"]) == (10.0 * blocks, channels, rate)
    assert row["rms_db"] == pytest.approx(20 * np.log10(np.sqrt(np.square(expected).mean())), abs=0.01)
    assert len(row["sha256"]) == 64 and sorted(os.listdir(tmp_path / "store")) == [
        "clips.s16", "manifest", "noise.s16", "store.json"]


def test_half_a_store_is_prepared_again(corpus, tmp_path):
    root = corpus()
    prepare(root, tmp_path / "store", **SETTINGS)
    (tmp_path / "store" / "store.json").unlink()
    with pytest.raises(DataError, match="kws prepare"):
        load_store(tmp_path / "store")
    prepare(root, tmp_path / "store", **SETTINGS)
    load_store(tmp_path / "store")


def test_what_the_model_will_not_hear_is_told(corpus, tmp_path, tone):
    root = corpus()
    word = tone(500.0, 1.0, 44100)
    soundfile.write(root / "yes" / "0000cae4_nohash_0.wav", np.stack([word, -word], axis=1), 44100)
    high = tone(15_000.0, 1.0, 44100) + tone(600.0, 1.0, 44100, 0.2)
    soundfile.write(root / "no" / "0000cae4_nohash_0.wav", high, 44100)
    loud = 4 * tone(700.0, 1.0)
    soundfile.write(root / "bed" / "0000cae4_nohash_0.wav", loud, 16000, subtype="FLOAT")
    found = {(problem.code, problem.path.partition("/")[0]) for problem in
             prepare(root, tmp_path / "store", **SETTINGS).problems}
    assert {("channels_cancel", "yes"), ("above_band", "no"), ("beyond_full_scale", "bed")} <= found


def unfinished(content):
    """As a recorder leaves it that was switched off: no sizes in the header."""
    return content[:4] + bytes(4) + content[8:40] + bytes(4) + content[44:]


def with_chunk_behind(content):
    return content + b"LIST" + (4).to_bytes(4, "little") + b"INFO"


@pytest.mark.parametrize("change", [unfinished, with_chunk_behind])
def test_a_long_background_recording_is_read_to_its_end(corpus, tmp_path, noise, wav_bytes, change):
    root, samples = corpus(), noise(0, 70.0)
    (root / "_background_noise_" / "long.wav").write_bytes(change(wav_bytes(samples)))
    prepare(root, tmp_path / "store", **SETTINGS)
    heard = load_store(tmp_path / "store").noise["long.wav"]
    np.testing.assert_array_equal(heard, np.frombuffer(wav_bytes(samples)[44:], "<i2"))


@pytest.mark.parametrize("suffix, change, told", [
    (".wav", lambda content: content[:-1000], "its header promises"),
    (".wav", lambda content: content + b"\0garbage" * 9, "are no chunks"),
    (".flac", lambda content: content[:-1000], "no FLAC frame ends"),
    (".flac", lambda content: content + b"garbage", "no FLAC frame ends"),
    (".ogg", lambda content: content[:-1000], "cut off"),
    (".mp3", lambda content: content[:-5], "cut off")])
def test_a_long_background_recording_that_is_not_whole_is_refused(corpus, tmp_path, noise, wav_bytes, suffix,
                                                                  change, told):
    root, kind = corpus(), suffix[1:].upper()
    content = wav_bytes(noise(0, 70.0), format=kind, subtype="PCM_16" if suffix in (".wav", ".flac") else None)
    (root / "_background_noise_" / f"long{suffix}").write_bytes(change(content))
    error = rejected(root, tmp_path / "store")
    assert f"long{suffix}" in str(error) and told in str(error)


def test_a_large_background_recording_that_is_cut_off_is_refused(corpus, tmp_path, noise, wav_bytes):
    root, samples = corpus(), np.tile(noise(0, 10.0)[:, None], (60, 2))
    content = wav_bytes(samples)
    assert len(content) > 2**24  # what is read as a whole, and checked by that
    (root / "_background_noise_" / "large.wav").write_bytes(content[:-1000])
    assert "its header promises" in str(rejected(root, tmp_path / "store"))
