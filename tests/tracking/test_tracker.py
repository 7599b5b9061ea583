"""Runs in a local store, read back; what happens without a server. tests/integration has real servers."""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from transformers import TrainerCallback

from kws import KeywordSpotter
from kws.commands.prepare import SETTINGS
from kws.config.sections import load_config
from kws.data.prepare import prepare
from kws.errors import TrackingError
from kws.export.to_onnx import export
from kws.model.folder import ONNX_FILE
from kws.model.labels import LabelSet
from kws.tracking.credentials import reason, without_password
from kws.tracking.provenance import dvc_hash
from kws.tracking.registry import CHAMPION, SCORE, log_model, promote_if_better
from kws.tracking.results import download_model, log_evaluation, log_export
from kws.tracking.tracker import MlflowTracker, Tracker, build_tracker
from kws.training import trainer as training

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
pytestmark = pytest.mark.usefixtures("backgrounds_made_once")


@pytest.fixture(scope="module")
def new_store(tmp_path_factory):
    """A store without a run: MLflow takes three seconds to make its tables."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def work(corpus, new_store, tmp_path, monkeypatch):
    """A folder with a corpus and its prepared store, entered."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "RANK",
                 "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kws.tracking.connection.LOCAL_STORE", store())
    corpus()
    shutil.copy(new_store, "mlflow.db")
    data = configure().data
    prepare(data.root, data.prepared, require_noise=True, **data.model_dump(include=SETTINGS))
    yield tmp_path
    while mlflow.active_run():
        mlflow.end_run()


def store():
    """The store of a test; its path is whole, because MLflow keeps open what it opened by that name before."""
    return f"sqlite:///{Path.cwd()}/mlflow.db"


def configure(*overrides):
    return load_config(ROOT / "configs/kws.yaml", [
        'data.keywords=["yes", "no"]', f"architecture={ROOT}/configs/arch/nano.yaml", "training.epochs=2",
        "training.min_epoch_steps=0", "training.warmup_epochs=0.5", "training.num_threads=1",
        f"tracking.uri={store()}", *overrides])


def train(*overrides, resume=False):
    config = configure(*overrides)
    with build_tracker(config) as tracker:
        result = training.train(config, resume, tracker)
        tracker.finish(result.figures)
    return config


def export_model(config):
    export(config.training.model, np.empty((0, 16000), np.int16))
    log_export(config, config.training.model)


def log_as_exported(config, exported):
    """Log a model folder with the exported files of another model, where nobody asks it: an export takes 4 seconds."""
    for name in (ONNX_FILE, "model.pt"):
        shutil.copy(exported / name, config.training.model)
    log_export(config, config.training.model)


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
        copy = client.download_artifacts(run.info.run_id, f"kws/{name}", str(work))
        assert Path(copy).read_bytes() == (work / "models/kws" / name).read_bytes()
    pointer = json.loads(Path("models/kws.run.json").read_text())
    assert (pointer["run_id"], pointer["run_name"]) == (run.info.run_id, run.info.run_name)


def test_the_model_of_the_registry_answers_in_a_fresh_process_with_its_own_code(work, tone):
    export_model(train())
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


def test_only_a_better_model_becomes_champion(work, exported):
    config = train()
    client, (run,) = runs()
    assert not client.search_registered_models()  # what cannot run without PyTorch is not registered
    log_as_exported(config, exported)
    client, (run,) = runs()
    assert run.info.status == "FINISHED" and run.data.tags["dvc_model_hash"] == dvc_hash(config.training.model)
    assert "kws/model.onnx" in {item.path for item in client.list_artifacts(run.info.run_id, "kws")}
    champion = client.get_model_version_by_alias("kws", CHAMPION)
    assert int(champion.version) == 1 and champion.run_id == run.info.run_id
    assert float(champion.tags[SCORE]) == run.data.metrics[f"final_{SCORE}"]
    with mlflow.start_run():
        uri = log_model(mlflow, config.training.model, LabelSet.from_keywords(["yes", "no"]), 16000)
        for score, expected in ((float(champion.tags[SCORE]), 1), (0.99, 2), (0.98, 2), (0.995, 3)):
            promote_if_better(mlflow, "kws", uri, score)
            assert int(client.get_model_version_by_alias("kws", CHAMPION).version) == expected


def test_data_that_dvc_refuses_is_no_reason_not_to_train(work, caplog):
    (work / "data/.dvcignore").touch()
    config = train()
    _, (run,) = runs()
    assert run.info.status == "FINISHED" and "dvc_data_hash" not in run.data.tags
    assert "data: cannot be hashed" in caplog.text and config.training.model.is_dir()


def test_a_model_that_was_not_validated_is_logged_and_not_registered(work, exported, caplog):
    config = train()
    path = config.training.model / "metrics.json"
    summary = json.loads(path.read_text())
    del summary["validation"]
    path.write_text(json.dumps(summary))
    log_as_exported(config, exported)
    client, (run,) = runs()
    assert "kws/model.onnx" in {item.path for item in client.list_artifacts(run.info.run_id, "kws")}
    logged = mlflow.search_logged_models(experiment_ids=[run.info.experiment_id], output_format="list")
    assert [model.name for model in logged] == ["kws"] and not client.search_registered_models()
    assert "not registered: it was not validated" in caplog.text


def test_a_folder_may_have_a_name_that_mlflow_refuses(work, exported, caplog):
    """As that of a release."""
    config = train("training.model=models/kws-0.2")
    with caplog.at_level("WARNING"):
        log_as_exported(config, exported)
    assert "not recorded" not in caplog.text
    download_model(config, f"models:/kws-0_2@{CHAMPION}", work / "downloaded")
    assert (work / "downloaded/model.onnx").read_bytes() == (config.training.model / "model.onnx").read_bytes()


def test_the_champion_can_be_had_with_what_image_and_archive_need(work, exported):
    config = train()
    log_as_exported(config, exported)
    for _ in range(2):  # the second time it takes the place of the first
        download_model(config, f"models:/kws@{CHAMPION}", Path("models/registered"))
        found = {path.name: path.read_bytes() for path in Path("models/registered").iterdir() if path.is_file()}
        assert found == {path.name: path.read_bytes() for path in Path("models/kws").iterdir() if path.is_file()}
        assert {"config.json", "model.safetensors", "model.onnx"} <= set(found)
    with pytest.raises(TrackingError, match="`kws export` registers") as caught:
        download_model(config, "models:/kws@winner", Path("models/registered"))
    assert caught.value.code == "no_registered_model" and Path("models/registered/model.onnx").is_file()
    Path("models/notes").mkdir()
    Path("models/notes/thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError):
        download_model(config, f"models:/kws@{CHAMPION}", Path("models/notes"))


def test_a_deleted_experiment_is_named_and_the_advice_helps(work):
    from mlflow.cli import cli  # two seconds, for each worker (pytest -n) that reads this file

    train()
    client, _ = runs()
    number = client.get_experiment_by_name("kws").experiment_id
    client.delete_experiment(number)
    for way in ("error", "local"):
        with pytest.raises(TrackingError, match="was deleted there.*tracking.experiment=NAME") as caught:
            train(f"tracking.on_failure={way}")
        message = str(caught.value)
        assert f"mlflow experiments restore --experiment-id {number}" in message and "\n" not in message
        assert "tracking.on_failure=local" not in message
    train("tracking.experiment=other")  # the second advice
    done = CliRunner().invoke(cli, ["experiments", "restore", "--experiment-id", number],
                              env={"MLFLOW_TRACKING_URI": store()})
    assert done.exit_code == 0, done.output
    train()  # and the first
    assert len(runs()[1]) == 2


def test_a_fallback_that_fails_too_is_an_error_that_says_both(work, monkeypatch):
    train()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # which MLflow set
    client, _ = runs()
    client.delete_experiment(client.get_experiment_by_name("kws").experiment_id)
    with pytest.raises(TrackingError) as caught:
        train(f"tracking.uri={NOWHERE}", "tracking.on_failure=local")
    assert NOWHERE in str(caught.value) and "'kws' was deleted" in str(caught.value)
    assert not Path("models/kws.lock").exists()


def test_a_store_that_cannot_be_written_is_no_server_to_start(work):
    (work / "text.db").write_text("no database " * 1000)
    with pytest.raises(TrackingError, match="tracking.on_failure=local") as caught:
        train(f"tracking.uri=sqlite:///{work}/text.db")
    assert "start the server" not in str(caught.value)
    train(f"tracking.uri=sqlite:///{work}/text.db", "tracking.on_failure=local")  # as advised
    assert runs()[1][0].info.status == "FINISHED"


def test_a_resumed_training_that_is_recorded_elsewhere_begins_a_run_there(work, monkeypatch):
    train(f"tracking.uri=sqlite:///{Path.cwd()}/elsewhere.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # which MLflow set
    train(f"tracking.uri={NOWHERE}", "tracking.on_failure=local", resume=True)
    assert [run.info.status for run in runs()[1]] == ["FINISHED"]


def test_a_user_without_a_name_or_a_home_is_recorded(work):
    code = ("import pathlib, pwd, sys\n"
            "def unknown(*_): raise KeyError('uid not found')\n"
            "pwd.getpwuid = pwd.getpwnam = unknown\n"
            "from kws.tracking.tracker import build_tracker\n"
            "from kws.config.sections import load_config\n"
            "with build_tracker(load_config(pathlib.Path(sys.argv[1]), sys.argv[2:])) as tracker:\n"
            "    tracker.start(False, {})")
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")}
    done = subprocess.run([sys.executable, "-c", code, f"{ROOT}/configs/kws.yaml", f"tracking.uri={store()}",
                           f"architecture={ROOT}/configs/arch/nano.yaml"], capture_output=True, text=True,
                          env={**environment, "PYTHONPATH": f"{ROOT}{os.pathsep}{environment.get('PYTHONPATH', '')}"})
    assert done.returncode == 0, done.stderr
    assert runs()[1][0].info.status == "FINISHED"


@pytest.mark.parametrize("uri, shown", [
    ("postgresql://kws:secret@host/db", "postgresql://host/db"),
    ("postgresql://kws:sec@ret@host:5432/db", "postgresql://host:5432/db"),
    ("postgresql://kws:sec/ret@host/db", "postgresql://host/db"),
    ("postgresql://kws:sec/r@et@host/db", "postgresql://host/db"),
    ("mysql+pymysql://kws:sec ret'@host/db", "mysql+pymysql://host/db"),
    ("https://secret@host", "https://host"), ("https://:secret@host:5000/path", "https://host:5000/path"),
    ("postgresql://host/db?user=a&password=secret&sslmode=on", "postgresql://host/db?user=a&password=...&sslmode=on"),
    ("https://host/?access_token=secret", "https://host/?access_token=..."),
    ("https://u:p@host/?API_KEY=secret#x", "https://host/?API_KEY=..."),
    ("sqlite:////home/anna@work/mlflow.db", "sqlite:////home/anna@work/mlflow.db"),
    ("sqlite:///mlflow.db", "sqlite:///mlflow.db"), ("http://127.0.0.1:5000", "http://127.0.0.1:5000")])
def test_a_uri_is_shown_without_what_opens_it(uri, shown):
    assert without_password(uri) == shown
    told = reason(ValueError(f"cannot reach {uri}: gone"), uri)
    assert "secret" not in told and "ret" not in told and told.startswith("cannot reach ")


@pytest.mark.parametrize("quoted", ['could not translate host name "ret@host" to address', "login sec@ret failed"])
def test_what_a_library_takes_for_the_host_is_not_shown(quoted):
    told = reason(ValueError(quoted), "postgresql://kws:sec@ret@host/db")
    assert "ret" not in told.replace("translate", "")


def test_no_password_is_recorded(work, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store())
    train("tracking.uri=https://kws:sec@ret@host/")
    client, (run,) = runs()
    assert run.data.params["tracking.uri"] == "https://host/"
    settings = Path(client.download_artifacts(run.info.run_id, "config.yaml", str(work))).read_text()
    assert "https://host/" in settings and "ret@" not in settings


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
    Path("mlflow.db").unlink()
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
    assert [record.message for record in caplog.records if f"recorded in {store()}" in record.message]
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
    log_evaluation(config, config.training.model, {"miss_rate_clean": 0.1, "advice": []}, reports, "streams", "streams")
    _, (run,) = runs()
    assert run.data.metrics["streams_miss_rate_clean"] == 0.1 and run.data.metrics["testing_accuracy"] == 0.5
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"evaluation", "streams"}
    train("tracking.enabled=false", "seed=1")  # other weights in the same folder
    log_evaluation(config, config.training.model, {"accuracy": 0.75}, reports)
    assert runs()[1][0].data.metrics["testing_accuracy"] == 0.5


def test_of_several_processes_the_first_records():
    assert type(build_tracker(configure(), is_first=False)) is Tracker
    assert type(build_tracker(configure())) is MlflowTracker


def test_an_untracked_training_does_not_load_mlflow():
    code = "import sys, kws.training.trainer, kws.tracking.tracker; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "False"


def test_a_run_that_is_gone_is_said(work):
    train()
    Path("runs/kws.run.json").write_text(json.dumps({"run_id": "0" * 32, "run_name": "gone"}))
    with pytest.raises(TrackingError, match="not found.*delete runs/kws.run.json"):
        train(resume=True)
    Path("runs/kws.run.json").unlink()  # as advised
    train(resume=True)
    assert len(runs()[1]) == 2
