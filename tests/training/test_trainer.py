import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainerCallback

from kws.config.sections import load_config
from kws.data.store import PreparedStore
from kws.errors import ConfigError, DataError
from kws.files.locks import exclusive
from kws.model.labels import LabelSet
from kws.model.loading import load_torch_model
from kws.training import checkpoints, loop
from kws.training import trainer as training
from kws.training.processes.peers import joined

LABELS = LabelSet.from_keywords(["low", "high"])
pytestmark = pytest.mark.usefixtures("backgrounds_made_once")
ARCHITECTURE = {
    "network": "folded-mel", "stem": {"channels": 8, "kernel": [5, 5], "stride": [2, 2]},
    "spectral": [{"channels": 8, "stride": [2, 2]}], "temporal": {"channels": 16, "blocks": 1, "kernel": 3},
    "dropout": 0.1}


def tone_store(num_clips=120, num_samples=4000):
    """Words are tones: 300 Hz is `low`, 3000 Hz `high`, 1000 Hz and 5000 Hz other words."""
    rng = np.random.default_rng(0)
    words = {"low": 300, "high": 3000, "hum": 1000, "beep": 5000}
    spoken = [list(words)[row % 4] for row in range(num_clips)]
    phases = rng.uniform(0, 6.28, (num_clips, 1))
    frequencies = np.array([[words[word]] for word in spoken]) * rng.uniform(0.9, 1.1, (num_clips, 1))
    waveforms = 3000 * np.sin(phases + np.arange(num_samples) * 2 * np.pi * frequencies / 16000)
    manifest = pd.DataFrame({
        "path": [f"{word}/{row}.wav" for row, word in enumerate(spoken)], "word": spoken,
        "label": [LABELS.label_of(word) for word in spoken],
        "split": ["validation" if row % 20 >= 16 else "training" for row in range(num_clips)]})
    noise = {"hiss": rng.integers(-9000, 9000, 50_000).astype(np.int16)}
    return PreparedStore(manifest=manifest, waveforms=waveforms.astype(np.int16), noise=noise, sample_rate=16000,
                         labels=LABELS, digest="")


def write_settings(folder):
    (folder / "arch.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    (folder / "tones.yaml").write_text(yaml.safe_dump({
        "architecture": str(folder / "arch.yaml"),
        "data": {"keywords": list(LABELS.keywords), "clip_seconds": 0.25, "silence_ratio": 1.0},
        "features": {"num_mels": 20},
        "augment": {"shift_ms": 20.0, "speed": 0.02, "time_mask_frames": 3, "frequency_mask_bins": 2},
        "training": {"model": str(folder / "model"), "checkpoints": str(folder / "run"), "epochs": 4,
                     "min_epoch_steps": 0, "batch_size": 16, "warmup_epochs": 0.5, "num_threads": 1}}))


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Return a function that makes a configuration for the tones, with overrides."""
    store = tone_store()
    monkeypatch.setattr("kws.data.store.load_store", lambda folder: store)
    write_settings(tmp_path)
    return lambda *overrides: load_config(tmp_path / "tones.yaml", overrides)


def weights(folder):
    return load_torch_model(folder).state_dict()


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_student_learns_from_its_teacher(configure, tmp_path):
    teacher = training.train(configure("training.model=" + str(tmp_path / "teacher"))).model
    before = weights(teacher)
    student = training.train(configure(f'training.teachers=["{teacher}"]', "seed=1")).model
    alone = training.train(configure("seed=1", "training.model=" + str(tmp_path / "alone"))).model
    assert any(not torch.equal(weight, weights(alone)[name]) for name, weight in weights(student).items())
    assert all(torch.equal(weight, before[name]) for name, weight in weights(teacher).items())


def test_training_learns_and_writes_a_whole_model_folder(configure, tmp_path):
    result = training.train(configure("training.epochs=12", "training.keyword_rarity=1"))
    assert result.validation["accuracy"] > 0.9
    assert {path.name for path in result.model.iterdir()} >= {
        "config.json", "preprocessor_config.json", "model.safetensors", "metrics.json", "history.csv", "README.md"}
    summary = json.loads((result.model / "metrics.json").read_text())
    assert summary["validation"] == result.validation
    assert summary["num_parameters"] == result.num_parameters == sum(
        weight.numel() for weight in load_torch_model(result.model).parameters())
    history = pd.read_csv(result.model / "history.csv")
    assert history["epoch"].tolist() == list(range(1, result.epochs + 1))
    kept = history.set_index("epoch").loc[summary["kept_epoch"]]
    assert kept["macro_f1"] == pytest.approx(result.validation["macro_f1"])
    assert "accuracy" in (result.model / "README.md").read_text()
    assert len({path.stat().st_mode for path in result.model.iterdir() if path.is_file()}) == 1  # readable alike
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("macro_f1, epoch", [
    ([0.5, 0.89, 0.9], 3), ([0.5, 0.96, 0.9], 3), ([0.5, 0.97, 0.9], 2), ([0.97, 0.97, 0.9], 1), ([0.9, 0.2, 0.1], 1)])
def test_an_earlier_epoch_is_kept_where_it_is_clearly_better(macro_f1, epoch):
    """With 88 of 100 clips right, a standard error is 3.2 points."""
    rows = pd.DataFrame({"epoch": [1, 2, 3], "macro_f1": macro_f1, "accuracy": [0.88, 0.88, 0.88]})
    assert loop.kept_epoch(rows, num_clips=100) == epoch
    assert loop.kept_epoch(rows, num_clips=10**9) == 1 + max(range(3), key=macro_f1.__getitem__)


@pytest.mark.parametrize("choice", [min, max], ids=["the best", "the last"])
def test_the_kept_weights_are_those_of_the_kept_epoch(configure, tmp_path, monkeypatch, choice):
    def keep(rows, num_clips):
        return int(choice(rows["epoch"].max(), rows.loc[rows["macro_f1"].idxmax(), "epoch"]))

    monkeypatch.setattr(loop, "kept_epoch", keep)
    result = training.train(
        configure("training.epochs=30", "training.early_stop_epochs=2", "training.keyword_rarity=1"))
    summary = json.loads((result.model / "metrics.json").read_text())
    checkpoints = {int(path.name.split("-")[1]): path for path in (tmp_path / "run").glob("checkpoint-*")}
    assert len(checkpoints) == 2 and (summary["kept_epoch"] < result.epochs) == (choice is min)
    for step, checkpoint in checkpoints.items():
        saved = load_file(checkpoint / "model.safetensors")
        found = weights(result.model)
        is_kept = step * result.epochs == summary["kept_epoch"] * max(checkpoints)
        assert all(torch.equal(saved[name], found[name]) for name in saved) == is_kept


@pytest.mark.parametrize("rarity", [1, 4])
def test_the_reported_accuracy_is_that_of_the_written_weights(configure, rarity):
    config = configure("training.epochs=6", "training.learning_rate=0.05", f"training.keyword_rarity={rarity}")
    result = training.train(config)
    store = tone_store()
    data = config.data
    clips = training.ClipDataset(store, "validation", None, data.silence_ratio, data.silence_gain_db, config.seed)
    batch = clips.__getitems__(range(len(clips)))
    with torch.inference_mode():
        predicted = load_torch_model(result.model)(batch["input_values"]).logits.argmax(dim=1).numpy()
    assert (predicted == clips.label_ids).mean() == pytest.approx(result.validation["accuracy"])


def test_a_finished_model_expects_fewer_keywords_than_it_was_trained_on(configure, tmp_path):
    as_trained = training.train(configure("training.keyword_rarity=1", f"training.model={tmp_path / 'a'}"))
    wary = training.train(configure("training.keyword_rarity=20", f"training.model={tmp_path / 'b'}"))
    clips = torch.from_numpy(tone_store().waveforms / np.float32(32768))
    with torch.inference_mode():
        before, after = (load_torch_model(result.model)(clips).logits for result in (as_trained, wary))
    shift = np.zeros_like(before)
    shift[:, len(LABELS.keywords):] = np.log(20)
    np.testing.assert_allclose(after - before, shift, atol=1e-5)
    pd.testing.assert_frame_equal(*(pd.read_csv(result.model / "history.csv") for result in (as_trained, wary)))


def test_equal_seeds_give_equal_weights_and_others_do_not(configure, tmp_path):
    first = training.train(configure("training.epochs=2", f"training.model={tmp_path / 'a'}"))
    second = training.train(configure("training.epochs=2", f"training.model={tmp_path / 'b'}"))
    other = training.train(configure("training.epochs=2", f"training.model={tmp_path / 'c'}", "seed=1"))
    assert_equal_weights(weights(first.model), weights(second.model))
    assert not torch.equal(weights(first.model)["network.stem.0.weight"],
                           weights(other.model)["network.stem.0.weight"])


class Interrupt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [10, 22], ids=["after one epoch", "within the third epoch"])
def test_an_interrupted_and_resumed_training_ends_with_the_same_weights(configure, tmp_path, monkeypatch, step):
    whole = training.train(configure(f"training.model={tmp_path / 'whole'}"))
    build = training._build_trainer

    def build_interrupted(config, store):
        trainer, progress = build(config, store)
        trainer.add_callback(Interrupt(step))
        return trainer, progress

    config = configure(f"training.model={tmp_path / 'resumed'}")
    monkeypatch.setattr(training, "_build_trainer", build_interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(config)
    assert not (tmp_path / "resumed").exists()
    monkeypatch.setattr(training, "_build_trainer", build)
    resumed = training.train(config, resume=True)
    assert_equal_weights(weights(whole.model), weights(resumed.model))
    assert (whole.model / "history.csv").read_text() == (resumed.model / "history.csv").read_text()


@pytest.mark.parametrize("cut_off", [lambda state: state.unlink(), lambda state: os.truncate(state, 0),
                                     lambda state: os.truncate(state, 40)], ids=["none", "empty", "part"])
def test_resuming_skips_a_checkpoint_that_was_cut_off(configure, tmp_path, cut_off):
    config = configure("training.epochs=2")
    training.train(config)
    first, last = sorted((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    cut_off(last / "trainer_state.json")
    found = checkpoints.to_resume(tmp_path / "run", checkpoints.describe(config, tone_store(), 1))
    assert (found.path, found.epoch, found.is_last) == (first, 1, False)


def test_checkpoints_of_another_training_are_refused(configure, tmp_path, monkeypatch):
    training.train(configure("training.epochs=1"))
    before = sorted(tmp_path.rglob("*"))
    for override, told in {
            "seed=5": "seed is 5, was 0", "training.learning_rate=0.001": "training.learning_rate is 0.001, was 0.01",
            "training.epochs=9": "training.epochs is 9, was 1",
            "features.num_mels=24": "features.num_mels is 24, was 20",
            "data.unknown_ratio=1": "data.unknown_ratio is 1.0, was 3.0",
            "augment.tilt=0": "augment.tilt is 0.0, was 0.8"}.items():
        with pytest.raises(DataError, match=told) as caught:
            training.train(configure("training.epochs=1", override), resume=True)
        assert caught.value.code == "other_training" and caught.value.args[0].count(", was ") == 1
    store, others = tone_store(), LabelSet.from_keywords(["cat", "bed"])
    store.manifest["label"] = store.manifest["label"].replace({"low": "cat", "high": "bed"})
    other = PreparedStore(store.manifest, store.waveforms, store.noise, 16000, others, "f00")
    monkeypatch.setattr("kws.data.store.load_store", lambda folder: other)
    with pytest.raises(DataError, match="recordings is f00.*labels is cat, bed, .*, was low, high, "):
        training.train(configure("training.epochs=1", "data.keywords=[cat, bed]"), resume=True)
    (tmp_path / "run/training.json").unlink()
    with pytest.raises(DataError, match="nothing says which training"):
        training.train(configure("training.epochs=1", "data.keywords=[cat, bed]"), resume=True)
    assert [path for path in before if path.name != "training.json"] == sorted(tmp_path.rglob("*"))


def test_what_ended_is_said_and_its_model_written_again_also_elsewhere(configure, tmp_path, monkeypatch, caplog):
    """Stopped early, the best epoch kept; then the folder is moved, and the model lost."""
    monkeypatch.setattr(loop, "kept_epoch",
                        lambda rows, num_clips: int(rows.loc[rows["macro_f1"].idxmax(), "epoch"]))
    settings = ("training.epochs=30", "training.early_stop_epochs=2")
    whole = training.train(configure(*settings, f"training.model={tmp_path / 'whole'}"))
    assert whole.epochs < 30
    (tmp_path / "run").rename(tmp_path / "moved")
    again = training.train(configure(*settings, f"training.checkpoints={tmp_path / 'moved'}"), resume=True)
    assert f"has stopped early, after epoch {whole.epochs} of 30" in caplog.text
    assert_equal_weights(weights(whole.model), weights(again.model))
    assert (whole.model / "history.csv").read_text() == (again.model / "history.csv").read_text()
    (best,) = [path for path in (tmp_path / "moved").glob("checkpoint-*")
               if torch.equal(load_file(path / "model.safetensors")["network.stem.0.weight"],
                              weights(again.model)["network.stem.0.weight"])]
    for path in best.iterdir():
        path.unlink()
    best.rmdir()
    with pytest.raises(DataError, match=f"{best.name}: not there"):
        training.train(configure(*settings, f"training.checkpoints={tmp_path / 'moved'}"), resume=True)


@pytest.mark.parametrize("folder", ["model", "run"])
def test_a_folder_has_one_training_at_a_time(configure, tmp_path, folder):
    with exclusive(tmp_path / folder, "a training"):
        with pytest.raises(DataError, match=f"in use by a training .process {os.getpid()}.") as caught:
            training.train(configure("training.epochs=1"))
    assert caught.value.code == "in_use" and not (tmp_path / "run").exists()


def test_a_small_set_is_gone_through_several_times_an_epoch(configure, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    training.train(configure("training.epochs=2", "training.min_epoch_steps=30"))
    steps = [int(path.name.split("-")[1]) for path in (tmp_path / "run").glob("checkpoint-*")]
    assert min(steps) >= 30 and max(steps) == 2 * min(steps) and min(steps) < 40
    assert "training clips are few: an epoch goes through them" in caplog.text


@pytest.mark.parametrize("accuracy, recall, is_warned", [
    (0.6, 0.125, True), (0.6, 0.9, True), (0.9, 0.3, True), (0.9, 0.9, False), (0.95, 0.6, False)])
def test_a_model_that_hardly_beats_a_constant_answer_is_said(accuracy, recall, is_warned, caplog):
    targets = np.repeat([0, 1, 2, 3], [20, 20, 55, 5])
    training._warn_if_useless({"accuracy": accuracy, "keyword_recall": recall}, targets, LABELS)
    assert ("always answering _unknown_ would give 55.0 %" in caplog.text) == is_warned


def test_half_an_environment_of_torchrun_trains(configure, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with joined() as peers:
        assert training.train(configure("training.epochs=1"), peers=peers).epochs == 1


def write_heard(folder):
    """Note what is heard from now on: a line for every clip, its epoch and its content; one file for a process."""
    file = Path(folder, f"heard-{os.environ.get('RANK', 'alone')}.txt").open("a", buffering=1)
    set_epoch, get = training.ClipDataset.set_epoch, training.ClipDataset.__getitems__

    def note_epoch(self, epoch):
        self.epoch = epoch
        set_epoch(self, epoch)

    def note_clips(self, indices):
        batch = get(self, indices)
        if self.passes > 1:  # those that are trained on
            for clip in batch["input_values"]:
                file.write(f"{self.epoch} {hashlib.md5(clip.numpy().tobytes()).hexdigest()}\n")
        return batch

    training.ClipDataset.set_epoch, training.ClipDataset.__getitems__ = note_epoch, note_clips
    return lambda: setattr(training.ClipDataset, "set_epoch", set_epoch) or setattr(
        training.ClipDataset, "__getitems__", get)


WORKER = """
import json, os, sys
from pathlib import Path
import tests.training.test_trainer as tests
from kws.config.sections import load_config
from kws.data import store
from kws.training import loop, trainer as training
from kws.training.processes.peers import joined
rank, folder = os.environ["RANK"], sys.argv[1]
store.load_store = lambda _: tests.tone_store()
kept, loop.kept_epoch = loop.kept_epoch, lambda rows, count: 1
stop_noting = tests.write_heard(folder)
build = training._build_trainer
def build_interrupted(config, store):
    trainer, progress = build(config, store)
    trainer.add_callback(tests.Interrupt(22))
    return trainer, progress
config = load_config(Path(folder, "tones.yaml"), ["training.epochs=3", "training.min_epoch_steps=10",
                     f"training.checkpoints={folder}/run-{rank}", f"training.model={folder}/model-{rank}"])
training._build_trainer = build_interrupted
meeting = joined()
peers = meeting.__enter__()
try:
    training.train(config, peers=peers)
except KeyboardInterrupt:
    open(f"{folder}/heard-{rank}.txt", "a").write("resumed\\n")
training._build_trainer = build
finish, weights = training._finish, []
training._finish = lambda config, trainer, progress: weights.extend(
    float(weight.double().sum()) for weight in trainer.accelerator.unwrap_model(trainer.model).state_dict().values()
) or finish(config, trainer, progress)
result = training.train(config, resume=True, peers=peers)
json.dump([result.validation, result.epochs, weights], open(f"{folder}/result-{rank}.json", "w"))
stop_noting()
loop.kept_epoch, training._finish = kept, finish
training.train(load_config(Path(folder, "tones.yaml"), [*sys.argv[2:], f"training.model={folder}/pair",
                           f"training.checkpoints={folder}/pair-run"]), peers=peers)
meeting.__exit__(None, None, None)
"""
LONGER = ["training.epochs=10", "training.batch_size=32", "training.min_epoch_steps=10", "training.keyword_rarity=1"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder with what two processes make: a training that is interrupted and resumed, and a LONGER one."""
    folder = tmp_path_factory.mktemp("pair")
    write_settings(folder)
    (folder / "worker.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                           str(folder / "worker.py"), str(folder), *LONGER], capture_output=True, text=True,
                          env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_hear_what_one_hears_and_end_alike_without_a_common_disk(pair, configure, tmp_path):
    """Interrupted in the second epoch and resumed there; epoch 1 is kept, which only the first process has."""
    config = configure("training.epochs=3", "training.min_epoch_steps=10")
    stop_noting = write_heard(tmp_path)
    alone = training.train(config)
    stop_noting()
    assert alone.epochs == 3
    heard = (tmp_path / "heard-alone.txt").read_text().splitlines()
    assert len({line[2:] for line in heard}) > 200  # 96 recordings, and other silence in every epoch and pass
    together = []
    for rank in "01":
        first, _, rest = (pair / f"heard-{rank}.txt").read_text().partition("resumed\n")
        together += [line for line in first.splitlines() if line.startswith("0 ")] + rest.splitlines()
    assert sorted(together) == sorted(heard)
    assert all(sum(line.startswith(f"{epoch} ") for line in heard) == len(heard) / 3 for epoch in range(3))
    results = [json.loads((pair / f"result-{rank}.json").read_text()) for rank in "01"]
    assert results[0] == results[1] and results[0][1] == 3
    assert (pair / "model-0").is_dir() and not (pair / "model-1").exists()


def test_two_processes_learn_as_one_does(pair, configure):
    """The clips of every batch are the same; augmentation, dropout and batch statistics are drawn by each process."""
    alone = training.train(configure(*LONGER))
    one, two = (pd.read_csv(folder / "history.csv") for folder in (alone.model, pair / "pair"))
    assert one["learning_rate"].tolist() == pytest.approx(two["learning_rate"].tolist())
    np.testing.assert_allclose(two["training_loss"], one["training_loss"], atol=0.1)
    accuracy = json.loads((pair / "pair/metrics.json").read_text())["validation"]["accuracy"]
    assert accuracy == pytest.approx(alone.validation["accuracy"], abs=0.05) and accuracy > 0.9


def test_nothing_to_resume_from_is_said(configure):
    with pytest.raises(DataError, match="without --resume"):
        training.train(configure(), resume=True)


def test_a_store_made_for_other_settings_is_refused(configure):
    with pytest.raises(DataError, match="kws prepare") as caught:
        training.train(configure("data.clip_seconds=0.5"))
    assert caught.value.code == "stale_store"


def test_an_architecture_that_does_not_fit_the_features_is_named(configure):
    with pytest.raises(ConfigError, match="bcresnet-1.yaml: .*16 mel bins remain; sub_bands = 5"):
        training.train(configure("architecture=configs/arch/bcresnet-1.yaml", "features.num_mels=32"))


def test_early_stopping_ends_a_training_that_no_longer_improves(configure):
    result = training.train(configure("training.epochs=30", "training.early_stop_epochs=2"))
    assert result.epochs < 30


def test_a_failed_write_leaves_the_old_model_in_place(configure, tmp_path, monkeypatch):
    training.train(configure("training.epochs=1"))
    before = weights(tmp_path / "model")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kws.training.model_folder.write_model_card", fail)
    with pytest.raises(OSError, match="No space"):
        training.train(configure("training.epochs=1", "seed=1"))
    assert_equal_weights(before, weights(tmp_path / "model"))
    assert not list(Path(tmp_path).glob(".model*"))


def test_folders_that_hold_something_else_are_left_alone(configure, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "run").mkdir()
    for folder in ("model", "run"):
        (tmp_path / folder / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds other files"):
        training.train(configure("training.epochs=1"))
    training.train(configure("training.epochs=1", f"training.model={tmp_path / 'other'}"))
    assert (tmp_path / "model/thesis.txt").read_text() == (tmp_path / "run/thesis.txt").read_text() == "precious"


def test_a_model_folder_of_another_program_is_not_replaced(configure):
    config = configure()
    config.training.model.mkdir(parents=True)
    for name, content in (("config.json", '{"model_type": "whisper"}'), ("model.safetensors", "weights")):
        (config.training.model / name).write_text(content)
    with pytest.raises(FileExistsError, match="choose another folder"):
        training.train(config)
    assert (config.training.model / "model.safetensors").read_text() == "weights"
