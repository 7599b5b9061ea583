"""The road a user walks, on a tiny synthetic corpus, and what can go wrong on it."""
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from ci_selfcheck import BUGS
from datasets import load_from_disk

from kws.__main__ import main
from kws.commands import train
from kws.commands.cli import EXIT_BAD_INPUT, guard
from kws.config.sections import load_config
from kws.errors import ConfigError
from kws.model.folder import BODY

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ["--set", 'data.keywords=["yes", "no"]', "--set", "training.epochs=2", "--set", "training.warmup_epochs=0.5",
            "--set", "training.min_epoch_steps=0",
            "--set", f"architecture={ROOT}/configs/arch/nano.yaml", "--set", "tracking.enabled=false"]
CONFIG = str(ROOT / "configs/kws.yaml")
pytestmark = pytest.mark.usefixtures("backgrounds_made_once")


def run(name, *arguments):
    """Run a command, or a script that is none, in this process."""
    if (ROOT / f"kws/commands/{name}.py").is_file():
        return main([name.replace("_", "-"), *arguments])
    return guard(importlib.import_module(name).main, list(arguments))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "data"
    assert run("synthesize", str(folder), "--keywords", "yes", "no", "--words", "bed", "cat", "--speakers", "12",
               "--takes", "2", "1") == 0
    return folder


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A folder in which everything was made, by a fresh process each."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(corpus, folder / "data")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in (["prepare", CONFIG, *SETTINGS], ["train", CONFIG, "-v", *SETTINGS],
                    ["evaluate", "models/kws", "--config", CONFIG, *SETTINGS]):
        done = subprocess.run([sys.executable, str(ROOT / f"scripts/{command[0]}.py"), *command[1:]], cwd=folder,
                              env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    return folder


@pytest.fixture
def work(corpus, no_pictures, tmp_path, monkeypatch):
    """A fresh folder with the corpus, entered."""
    shutil.copytree(corpus, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_road_ends_with_a_measured_model(trained):
    metrics = json.loads((trained / "reports/evaluation/metrics.json").read_text())
    assert 0.0 <= metrics["accuracy"] <= 1.0 and metrics["clips"] > 0
    assert (trained / "models/kws/model.safetensors").is_file()
    assert (trained / "reports/data.html").is_file()
    assert "epoch 2/2" in (trained / "runs/kws.log").read_text()


def test_a_manifest_is_evaluated_as_the_split_is(trained, monkeypatch):
    monkeypatch.chdir(trained)
    manifest = load_from_disk("prepared/kws/manifest").to_pandas()
    manifest = manifest[manifest["split"] == "testing"]
    manifest.to_csv("data/testing.csv", index=False)
    assert run("evaluate", "models/kws", "--manifest", "data/testing.csv", "--output", "reports/by-manifest") == 0
    assert run("evaluate", "models/kws", "--config", CONFIG, *SETTINGS, "--set", "data.silence_ratio=0",
               "--output", "reports/by-split") == 0
    first, second = (json.loads(Path(f"reports/{name}/metrics.json").read_text())
                     for name in ("by-manifest", "by-split"))
    for metrics in (first, second):  # a sum whose last bit depends on the order of the clips
        metrics["expected_calibration_error"] = round(metrics["expected_calibration_error"], 9)
    assert first == second


def test_clips_labelled_for_another_model_are_refused(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    for script in ("evaluate", "robustness"):
        assert run(script, str(ROOT / "kws/pretrained/kws-8"), "--config", CONFIG, *SETTINGS) == EXIT_BAD_INPUT
        assert "expected the model's labels, down, go, left" in capsys.readouterr().err


def test_robustness_is_a_row_of_percentages_that_begins_with_the_accuracy(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    assert run("evaluate", "models/kws", "--config", CONFIG, *SETTINGS, "--split", "validation", "--output",
               "reports/clean") == 0
    capsys.readouterr()
    assert run("robustness", "models/kws", "--config", CONFIG, *SETTINGS) == 0
    header, row = capsys.readouterr().out.splitlines()[-2:]
    assert header.split() == ["clean", "20", "dB", "10", "dB", "5", "dB", "0", "dB", "room", "quiet", "cut"]
    figures = [float(figure) for figure in row.split()[1:]]
    clean = json.loads(Path("reports/clean/metrics.json").read_text())["accuracy"]
    assert figures[0] == pytest.approx(100 * clean, abs=0.01) and all(0 <= figure <= 100 for figure in figures)
    assert run("robustness", "models/kws", "--config", CONFIG, *SETTINGS, "--left-out", "bed") == 0
    assert "refused 'bed'" in capsys.readouterr().out
    assert run("robustness", "models/kws", "--config", CONFIG, *SETTINGS, "--left-out", "dog") == EXIT_BAD_INPUT
    assert "no recordings of dog" in capsys.readouterr().err


def test_two_processes_train_one_model(trained):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               str(ROOT / "scripts/train.py"), CONFIG, *SETTINGS, "--set", "training.num_threads=1", "-v",
               "--set", "training.model=models/two", "--set", "training.checkpoints=runs/two",
               "--set", "training.batch_size=8"]
    done = subprocess.run(command, cwd=trained, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("models/two:") == 1 and done.stderr.count("epoch 2/2:") == 1
    assert (trained / "models/two/model.safetensors").is_file()


@pytest.fixture
def first_of_two(monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
                        "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)


def test_teaching_a_classifier_takes_one_process(work, first_of_two):
    config = load_config(Path(CONFIG), ["training.trains=classifier", f"training.start_from={BODY}"])
    with pytest.raises(ConfigError, match="found 2 processes; training.trains=classifier takes one"):
        train._taught(config, resume=False)  # the command waits for the second process before
    assert not (work / "models").exists()


@pytest.mark.parametrize("command", [["train_streams", CONFIG], ["teach", "data", "--keywords", "yes", "no"]],
                         ids=lambda command: command[0])
def test_other_training_takes_one_process_too(work, first_of_two, capsys, command):
    assert run(*command) == EXIT_BAD_INPUT
    assert "found 2 processes" in capsys.readouterr().err
    assert not (work / "models").exists() and not (work / "prepared").exists()


def clips(work):
    return sorted((work / "data/yes").iterdir())


def test_broken_recordings_stop_the_preparation_and_are_named(work, capsys):
    empty, header, part, text, nan, *_ = clips(work)
    good = empty.read_bytes()
    for path, content in ((empty, b""), (header, good[:44]), (part, good[:2000]), (text, b"this is text")):
        path.write_bytes(content)
    soundfile.write(nan, [0.1, float("nan")] * 4000, 16000, subtype="FLOAT")
    assert run("prepare", CONFIG, *SETTINGS) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    for path, told in ((empty, "0 bytes"), (header, "header promises"), (part, "header promises"),
                       (text, "not readable as audio"), (nan, "NaN")):
        assert [told in line for line in message.splitlines() if f"yes/{path.name}: " in line] == [True]
    assert "Traceback" not in message
    assert not (work / "prepared/kws").exists() and not list((work / "prepared").glob(".*"))
    assert "error" in (work / "reports/data.json").read_text()


def test_other_formats_are_converted(work):
    formats = ((8000, 1, "PCM_16"), (16000, 2, "PCM_16"), (16000, 1, "PCM_24"), (16000, 1, "FLOAT"),
               (44100, 2, "FLOAT"))
    for path, (rate, channels, subtype) in zip(clips(work), formats):
        samples, _ = soundfile.read(path)
        soundfile.write(path, samples[:, None].repeat(channels, axis=1), rate, subtype=subtype)
    assert run("prepare", CONFIG, *SETTINGS) == 0
    assert (work / "prepared/kws/store.json").is_file()


@pytest.mark.parametrize("arguments, expected", [
    (["--set", "training.lr_rate=1"], "training.lr_rate: unknown key; did you mean"),
    (["--set", "data.keywords=[true]"], "quote it"),
    (["--set", "training.epochs=-1"], "training.epochs: found -1"),
    (["--set", "data.root=nowhere"], "nowhere: no such folder"),
    (["--set", 'data.keywords=["yes", "spam"]'], "spam"),
])
def test_bad_settings_are_one_line_and_exit_code_2(work, capsys, arguments, expected):
    assert run("prepare", CONFIG, *SETTINGS, *arguments) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert expected in message and "Traceback" not in message
    assert not (work / "prepared").exists() or not list((work / "prepared").iterdir())


def test_training_without_a_store_says_how_to_make_one(work, capsys):
    assert run("train", CONFIG, *SETTINGS) == EXIT_BAD_INPUT
    assert "kws prepare" in capsys.readouterr().err
    assert not (work / "models").exists()


def test_an_absent_configuration_or_model_is_named(work, capsys):
    assert run("train", "absent.yaml") == EXIT_BAD_INPUT
    assert "absent.yaml" in capsys.readouterr().err
    assert run("evaluate", "models/absent") == EXIT_BAD_INPUT
    assert "models/absent: no config.json" in capsys.readouterr().err


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")
                                          if path.stem not in ("ci_selfcheck", "load_client", "peer_service",
                                                               "repair_torchaudio")))
def test_every_script_explains_itself(script, capsys):
    with pytest.raises(SystemExit) as ended:
        run(script, "--help")
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 300


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.module)
def test_a_bug_that_the_selfcheck_plants_has_a_place(bug):
    assert (ROOT / bug.module).read_text().count(bug.right) == 1 and (ROOT / bug.tests).is_file()


@pytest.mark.parametrize("script, setting", [("prepare", "data.prepared"), ("train", "training.checkpoints"),
                                             ("train", "training.model")])
def test_a_full_disk_is_said_and_leaves_nothing(trained, small_disk, capsys, monkeypatch, script, setting):
    monkeypatch.chdir(trained)
    (small_disk / "fill").write_bytes(bytes(1_000_000))
    assert run(script, CONFIG, *SETTINGS, "--set", f"training.checkpoints={small_disk.parent}/run", "--set",
               f"training.model={small_disk.parent}/model", "--set", f"{setting}={small_disk}/out"
               ) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert "No space left on device" in message and "Traceback" not in message
    if setting != "training.checkpoints":
        assert [path.name for path in small_disk.iterdir()] == ["fill"]
