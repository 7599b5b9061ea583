"""Connect to the store of MLflow that a configuration names, and say what helps where that fails."""
from __future__ import annotations

import getpass
import logging
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Mapping

from kws.config.sections import Config
from kws.errors import TrackingError
from kws.tracking.credentials import reason, without_password

LOCAL_STORE = "sqlite:///mlflow.db"

_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else minutes for a dead server
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def tracking_uri(config: Config) -> str:
    """Where runs are recorded: MLFLOW_TRACKING_URI, else what the configuration says."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.tracking.uri


def import_mlflow(uri: str) -> ModuleType:
    """Import MLflow, which takes seconds, and point it to a store."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _name_a_user()
    import mlflow
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    return mlflow


def _name_a_user() -> None:
    """Set what MLflow asks for, a home and a name: a container's user may have neither (`docker run --user 12345`)."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = f"user-{os.getuid()}"


def connect(uri: str, experiment: str) -> ModuleType:
    """Make sure of the store and the experiment.

    Raises:
        TrackingError: "deleted_experiment".
    """
    mlflow = import_mlflow(uri)
    found = mlflow.get_experiment_by_name(experiment)
    if found is None:
        database = uri.removeprefix("sqlite:///")
        beside = (Path(database).resolve().parent / "mlruns").as_uri() if database != uri else None
        mlflow.create_experiment(experiment, artifact_location=beside)
    elif found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"{without_password(uri)}: the experiment {experiment!r} was deleted there; restore it with `mlflow "
            f"experiments restore --experiment-id {found.experiment_id}`, where MLFLOW_TRACKING_URI names that store, "
            "or name another with --set tracking.experiment=NAME", "deleted_experiment")
    mlflow.set_experiment(experiment)
    return mlflow


def continue_run(mlflow: ModuleType, run: Mapping[str, str], pointer: Path) -> None:
    """Continue an earlier run; raise TrackingError "no_run" where it is gone."""
    try:
        mlflow.start_run(run_id=run["run_id"], log_system_metrics=True)
    except mlflow.exceptions.MlflowException as error:
        raise TrackingError(
            f"the run {run['run_name']} cannot be continued ({reason(error)}); if it was deleted, restore it with "
            f"`mlflow runs restore --run-id {run['run_id']}`, or delete {pointer} to record the rest in a new run",
            "no_run") from error


def explain(uri: str, error: BaseException) -> TrackingError:
    """Say why runs cannot be recorded in a store, and what helps against that."""
    if isinstance(error, TrackingError):
        return error
    elsewhere = "" if uri == LOCAL_STORE else "--set tracking.on_failure=local or "
    remedy = "start the server, set MLFLOW_TRACKING_URI" if uri.startswith(("http:", "https:")) else \
        "make it a database of MLflow's that can be written, set MLFLOW_TRACKING_URI to another"
    return TrackingError(f"{without_password(uri)}: runs cannot be recorded there ({reason(error, uri)}); {remedy}, "
                         f"or train with {elsewhere}--set tracking.enabled=false")
