"""Runs on a real tracking server: MLflow over PostgreSQL, artefacts through it to S3, looked at with a browser."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
import requests

pytestmark = pytest.mark.services

TRAIN = (sys.executable, "scripts/train.py", "configs/kws.yaml", "-v", "--set", "tracking.enabled=true")


@pytest.fixture(scope="module")
def postgresql(free_port):
    """The address of an empty database of a PostgreSQL server of our own."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [str(Path(shutil.which("initdb") or "none").parent)]
    if not Path(programs[-1], "initdb").is_file():
        pytest.skip("no PostgreSQL; Debian's package postgresql has it")
    is_root = os.geteuid() == 0  # under whom PostgreSQL refuses to run
    user = {"user": "postgres", "group": "postgres"} if is_root else {}
    folder = Path(tempfile.mkdtemp(prefix="kws-postgresql-"))
    if is_root:
        shutil.chown(folder, "postgres", "postgres")
    control, data, port = [f"{programs[-1]}/pg_ctl", "-D", f"{folder}/data", "-w"], folder / "data", free_port()
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run([f"{programs[-1]}/initdb", "-D", str(data), "-U", "kws", "-A", "trust", "-E", "UTF8"], check=True,
                   cwd=folder, stdout=subprocess.DEVNULL, **user)
    subprocess.run([*control, "-l", f"{folder}/log", "-o", settings, "start"], check=True, cwd=folder,
                   stdout=subprocess.DEVNULL, **user)
    yield f"postgresql+psycopg2://kws@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)
    shutil.rmtree(folder)


class Server:
    """`mlflow server`, which can be killed and started again."""

    def __init__(self, database, s3, folder, port):
        self.uri = f"http://127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
                        "--serve-artifacts", "--workers", "1"]
        address, credentials = s3
        self.environment = {  # as docker/mlflow/compose.yaml sets it
            **os.environ, **credentials, "MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_S3_ENDPOINT_URL": address,
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.log = folder / "server.log"
        self.start()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True,
                                            env=self.environment, cwd=self.log.parent)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.uri}/health", timeout=2).ok:
                    return
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.2)
        self.kill()
        pytest.fail(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def kill(self):
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture(scope="module")
def server(postgresql, s3, free_port, tmp_path_factory):
    server = Server(postgresql, s3, tmp_path_factory.mktemp("server"), free_port())
    yield server
    server.kill()


@pytest.fixture(scope="module")
def recorded(server, reproduced, tmp_path_factory):
    """A project whose pipeline ran with nothing but MLFLOW_TRACKING_URI set, and its run."""
    folder = tmp_path_factory.mktemp("recorded") / "project"
    shutil.copytree(reproduced.folder, folder, symlinks=True)
    project = type(reproduced)(folder)
    project.configure(tracking={"enabled": True})
    project.dvc("repro", "--quiet", "--force", "--single-item", "train", "evaluate", MLFLOW_TRACKING_URI=server.uri)
    return project, run_of(project, server)


def run_of(project, server):
    pointer = json.loads((project.folder / "models/kws.run.json").read_text())
    return mlflow.MlflowClient(server.uri).get_run(pointer["run_id"])


def test_everything_is_read_back_from_the_server(server, recorded, tmp_path):
    project, run = recorded
    client = mlflow.MlflowClient(server.uri)
    assert run.info.status == "FINISHED" and run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert json.loads(run.data.params["data.keywords"]) == ["yes", "no"]
    summary = json.loads((project.folder / "models/kws/metrics.json").read_text())
    assert run.data.metrics["final_validation_macro_f1"] == summary["validation"]["macro_f1"]
    figures = json.loads((project.folder / "reports/evaluation/metrics.json").read_text())
    assert run.data.metrics["testing_accuracy"] == figures["accuracy"]
    lock = (project.folder / "dvc.lock").read_text()
    for name in ("dvc_data_hash", "dvc_model_hash"):
        assert run.data.tags[name] in lock
    assert run.data.tags["git_commit"] == project.git("rev-parse", "HEAD")
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
        "config.yaml", "data.html", "data.json", "dvc.lock", "evaluation", "kws", "kws.log"}
    copy = client.download_artifacts(run.info.run_id, "kws/model.safetensors", str(tmp_path))
    assert Path(copy).read_bytes() == (project.folder / "models/kws/model.safetensors").read_bytes()


def test_the_champion_answers_in_a_fresh_process(server, recorded, tmp_path):
    code = ("import mlflow, numpy; model = mlflow.pyfunc.load_model('models:/kws@champion'); "
            "print(model.predict(numpy.zeros((2, 8000), 'float32')).shape)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "MLFLOW_TRACKING_URI": server.uri})
    assert done.stdout.splitlines()[-1:] == ["(2, 6)"], done.stderr  # label, confidence, four labels


def start_training(project, server, epochs):
    command = [*TRAIN, "--set", f"training.epochs={epochs}", "--set", "training.early_stop_epochs=99"]
    environment = {**os.environ, "PYTHONPATH": str(project.folder), "MLFLOW_TRACKING_URI": server.uri,
                   "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=project.folder, env=environment, stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, text=True)


def wait_for(process, text):
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the training ended before it said {text!r}")


def test_a_server_that_dies_in_mid_run_costs_no_training(copy, server):
    (copy.folder / "models/kws/model.safetensors").write_bytes(b"of an earlier training")
    process = start_training(copy, server, epochs=4)
    wait_for(process, "epoch 1/4")
    server.kill()
    _, errors = process.communicate(timeout=180)
    server.start()
    assert process.returncode == 0, errors
    assert errors.count("no longer recorded") == 1 and "epoch 4/4" in errors and "Traceback" not in errors
    assert (copy.folder / "models/kws/model.safetensors").stat().st_size > 10_000
    run = run_of(copy, server)
    assert run.info.status == "RUNNING" and "training_loss" in run.data.metrics


def test_a_server_that_comes_back_gets_the_whole_run(copy, server):
    process = start_training(copy, server, epochs=6)
    wait_for(process, "epoch 1/6")
    server.kill()
    wait_for(process, "no longer recorded")
    process.send_signal(signal.SIGSTOP)  # until the server is there again
    server.start()
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    run = run_of(copy, server)
    history = mlflow.MlflowClient(server.uri).get_metric_history(run.info.run_id, "validation_macro_f1")
    assert sorted(point.step for point in history) == [1, 2, 3, 4, 5, 6] and run.info.status == "FINISHED"


def browse(address, *options):
    """What a browser makes of a page: its document after the scripts have run."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser; Debian's package chromium is one")
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   f"--user-data-dir={profile}", "--window-size=1400,900", "--virtual-time-budget=30000", *options]
        return subprocess.run([*command, address], capture_output=True, text=True, timeout=120).stdout


def test_the_run_is_seen_in_a_browser(server, recorded):
    _, run = recorded
    place = f"{server.uri}/#/experiments/{run.info.experiment_id}"
    assert run.info.run_name in browse(f"{place}/runs", "--dump-dom")
    page = browse(f"{place}/runs/{run.info.run_id}", "--dump-dom")
    assert run.info.run_name in page and "testing_accuracy" in page
    assert re.search(rf">\s*{run.data.metrics['testing_accuracy']:g}\d*\s*<", page)
