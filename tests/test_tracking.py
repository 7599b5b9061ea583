"""Runs in a local store, read back; what happens without a server. tests/integration has real servers."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from transformers import TrainerCallback

from kws import training
from kws import KeywordSpotter
from kws.config import load_config
from kws.data.prepare import prepare
from kws.errors import TrackingError
from kws.labels import LabelSet
from kws.provenance import dvc_hash
from kws.registry import CHAMPION, SCORE, crown, log_model
from kws.tracking import Tracker, build_tracker, log_evaluation

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture
def work(corpus, tmp_path, monkeypatch):
    """A folder with a corpus and its prepared store, entered."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    corpus()
    data = configure().data
    prepare(data.root, data.prepared, require_noise=True, **data.model_dump(
        include={"keywords", "sample_rate", "clip_seconds", "min_seconds", "max_seconds", "validation_percent",
                 "testing_percent"}))
    yield tmp_path
    while mlflow.active_run():
        mlflow.end_run()


def store():
    """The store of a test; its path is whole, because MLflow keeps open what it opened by that name before."""
    return f"sqlite:///{Path.cwd()}/mlflow.db"


def configure(*overrides):
    return load_config(ROOT / "configs/kws.yaml", [
        'data.keywords=["yes", "no"]', f"architecture={ROOT}/configs/arch/nano.yaml", "training.epochs=2",
        "training.warmup_epochs=0.5", "training.num_threads=1", f"tracking.uri={store()}", *overrides])


def train(*overrides, resume=False):
    config = configure(*overrides)
    with build_tracker(config) as tracker:
        result = training.train(config, resume, tracker)
        tracker.finish(result.figures)
    return config


def runs():
    client = mlflow.MlflowClient(store())
    experiment = client.get_experiment_by_name("kws")
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def test_a_run_holds_what_was_asked_what_happened_and_what_came_out(work):
    train("training.learning_rate=1e-3")
    client, (run,) = runs()
    assert run.info.status == "FINISHED" and run.info.run_name.startswith("nano-seed0-")
    parameters = {name: json.loads(run.data.params[name]) for name in (
        "training.learning_rate", "training.epochs", "data.keywords", "augment.snr_db", "tracking.enabled", "seed")}
    assert parameters == {"training.learning_rate": 0.001, "training.epochs": 2, "data.keywords": ["yes", "no"],
                          "augment.snr_db": [0.0, 30.0], "tracking.enabled": True, "seed": 0}
    assert run.data.params["training.model"] == "models/kws" and "network.temporal.channels" in run.data.params
    history = {name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
               for name in ("training_loss", "validation_loss", "validation_accuracy", SCORE)}
    assert all([step for step, _ in points] == [1, 2] for points in history.values())
    summary = json.loads(Path("models/kws/metrics.json").read_text())
    assert run.data.metrics[f"final_{SCORE}"] == summary["validation"]["macro_f1"] == max(
        value for _, value in history[SCORE])
    tags = run.data.tags
    assert tags["dvc_data_hash"] == dvc_hash(Path("data")) and tags["dvc_model_hash"] == dvc_hash(Path("models/kws"))
    assert tags["num_parameters"] == str(summary["num_parameters"]) and tags["seed"] == "0" and tags["machine"]
    (used,) = run.inputs.dataset_inputs
    assert f"{used.dataset.digest}.dir" == tags["dvc_data_hash"] and used.dataset.name == "data"
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == {"config.yaml", "kws"}  # there is no log file, report or dvc.lock in this folder
    for name in os.listdir("models/kws"):
        copy = client.download_artifacts(run.info.run_id, f"kws/{name}")
        assert Path(copy).read_bytes() == (work / "models/kws" / name).read_bytes()
    pointer = json.loads(Path("models/kws.run.json").read_text())
    assert (pointer["run_id"], pointer["run_name"]) == (run.info.run_id, run.info.run_name)


def test_the_model_of_the_registry_answers_in_a_fresh_process_with_its_own_code(work, tone):
    train()
    clips = np.stack([tone(300.0), tone(500.0), np.zeros(16000, np.float32)])
    np.save("clips.npy", clips)
    code = ("import mlflow, numpy, sys; mlflow.set_tracking_uri(sys.argv[1]); "
            "model = mlflow.pyfunc.load_model('models:/kws@champion'); "
            "print(model.predict(numpy.load(sys.argv[2])).to_json()); "
            "import kws; print(kws.__file__); print(model.metadata.signature.outputs.input_names())")
    (work / "other").mkdir()
    done = subprocess.run([sys.executable, "-c", code, store(), str(work / "clips.npy")],
                          cwd=work / "other", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers, package, columns = done.stdout.strip().splitlines()[-3:]
    answers = json.loads(answers)
    labels = LabelSet.from_keywords(["yes", "no"])
    assert list(answers) == ["label", "confidence", *labels] and columns == str(list(answers))
    assert "code" in Path(package).parts and not Path(package).is_relative_to(ROOT)
    expected = KeywordSpotter("models/kws")(list(clips))
    assert list(answers["label"].values()) == [prediction.label for prediction in expected]
    assert list(answers["confidence"].values()) == pytest.approx(
        [prediction.confidence for prediction in expected], abs=1e-5)


def test_only_a_better_model_becomes_champion(work):
    config = train()
    client, (run,) = runs()
    champion = client.get_model_version_by_alias("kws", CHAMPION)
    assert int(champion.version) == 1 and champion.run_id == run.info.run_id
    assert float(champion.tags[SCORE]) == run.data.metrics[f"final_{SCORE}"]
    with mlflow.start_run():
        uri = log_model(mlflow, config.training.model, LabelSet.from_keywords(["yes", "no"]), 16000)
        for score, expected in ((float(champion.tags[SCORE]), 1), (0.99, 2), (0.98, 2), (0.995, 3)):
            crown(mlflow, "kws", uri, score)
            assert int(client.get_model_version_by_alias("kws", CHAMPION).version) == expected


class Interrupt(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if state.epoch and state.epoch > 0.5:
            raise KeyboardInterrupt


def test_a_resumed_training_continues_its_run_and_a_new_one_makes_a_new_run(work, monkeypatch):
    build = training._build_trainer

    def build_interrupted(config, store):
        trainer, progress = build(config, store)
        trainer.add_callback(Interrupt())
        return trainer, progress

    monkeypatch.setattr(training, "_build_trainer", build_interrupted)
    with pytest.raises(KeyboardInterrupt):
        train()
    client, (run,) = runs()
    assert run.info.status == "KILLED" and f"final_{SCORE}" not in run.data.metrics
    monkeypatch.setattr(training, "_build_trainer", build)
    train(resume=True)
    client, (resumed,) = runs()
    assert resumed.info.run_id == run.info.run_id and resumed.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "training_loss")] == [1, 2]
    train("training.model=models/again")
    client, found = runs()
    assert len({run.info.run_id for run in found}) == len({run.info.run_name for run in found}) == 2


def test_without_a_server_nothing_is_begun_and_old_checkpoints_stay(work, monkeypatch):
    train("tracking.enabled=false")
    assert not Path("mlflow.db").exists()
    before = sorted(Path("runs/kws").iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE.replace("//", "//user:secret@"))
    started = time.monotonic()
    with pytest.raises(TrackingError, match="tracking.on_failure=local") as caught:
        train()
    assert time.monotonic() - started < 30
    assert NOWHERE in str(caught.value) and "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(Path("runs/kws").iterdir()) == before


def test_without_a_server_a_training_may_be_recorded_here(work, caplog):
    train(f"tracking.uri={NOWHERE}", "tracking.on_failure=local")
    assert [record.message for record in caplog.records if "recorded in sqlite:///mlflow.db" in record.message]
    _, (run,) = runs()
    assert run.info.status == "FINISHED"


def test_an_evaluation_joins_the_run_of_its_model_and_no_other(work):
    config = train()
    reports = work / "reports"
    reports.mkdir()
    (reports / "confusion.png").write_bytes(b"picture")
    (work / "dvc.lock").write_text("lock")
    (work / "models/kws/model.onnx").write_bytes(b"exported later")
    log_evaluation(config, config.training.model, {"accuracy": 0.5, "per_label": {}, "keyword_auc": None}, reports)
    client, (run,) = runs()
    assert run.data.metrics["testing_accuracy"] == 0.5 and "testing_per_label" not in run.data.metrics
    assert run.data.tags["dvc_model_hash"] == dvc_hash(config.training.model)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"dvc.lock", "evaluation"}
    assert run.info.status == "FINISHED"
    train("tracking.enabled=false", "seed=1")  # other weights in the same folder
    log_evaluation(config, config.training.model, {"accuracy": 0.75}, reports)
    assert runs()[1][0].data.metrics["testing_accuracy"] == 0.5


def test_of_several_processes_the_first_records(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert type(build_tracker(configure())) is Tracker


def test_an_untracked_training_does_not_load_mlflow(work):
    code = "import sys, kws.training, kws.tracking; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "False"


def test_a_run_that_is_gone_is_said(work):
    train()
    Path("runs/kws.run.json").write_text(json.dumps({"run_id": "0" * 32, "run_name": "gone"}))
    with pytest.raises(TrackingError, match="not found"):
        train(resume=True)
