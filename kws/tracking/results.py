"""Add what is made of a trained model to its run: the export, the evaluation; and get registered models back.

A model is registered when it has been exported: what the registry gives out answers without PyTorch.
"""
from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any, Mapping

from kws.config.sections import Config
from kws.errors import TrackingError
from kws.files.atomic import atomic_folder, check_replaceable
from kws.inference.runtime import OnnxRuntime
from kws.model.folder import CONFIG_FILE, MODEL_TYPE, ONNX_FILE, WEIGHTS_FILE
from kws.tracking import connection
from kws.tracking.connection import connect, import_mlflow, tracking_uri
from kws.tracking.credentials import reason, without_password
from kws.tracking.provenance import dvc_hash
from kws.tracking.registry import log_model, model_folder, model_name, promote_if_better
from kws.tracking.run_file import read_run

logger = logging.getLogger(__name__)


def log_export(config: Config, model: Path) -> None:
    """Add an exported model to the run that made it, and register it if it is the best so far.

    A model that was not validated, as one of few own words, has no rank: it is logged, not registered.
    Nothing happens if the model was not tracked, or the folder holds other weights by now.

    Args:
        config: says where runs are recorded.
        model: the model folder, exported.
    """
    run = _run_of(config, model)
    if not run:
        return
    try:
        mlflow = connect(_store_of(run, config), config.tracking.experiment)
        mlflow.MlflowClient().set_tag(run["run_id"], "dvc_model_hash", dvc_hash(model))
        mlflow.log_artifacts(str(model), model.name, run_id=run["run_id"])
        summary = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
        runtime = OnnxRuntime(model / ONNX_FILE)
        with mlflow.start_run(run_id=run["run_id"]):
            uri = log_model(mlflow, model, runtime.labels, runtime.num_samples)
        if "validation" in summary:
            promote_if_better(mlflow, model_name(model), uri, summary["validation"]["macro_f1"])
        else:
            logger.warning("warning: %s is logged in run %s but not registered: it was not validated, and the champion "
                           "is the best by that", model, run["run_name"])
    except Exception as error:  # the export stands, whatever the server does
        logger.warning("warning: the export is not recorded in run %s (%s)", run["run_name"], reason(error))


def log_evaluation(config: Config, model: Path, metrics: Mapping[str, Any], folder: Path, prefix: str = "testing",
                   artifacts: str = "evaluation") -> None:
    """Add an evaluation to the run that made the model, if it was tracked and these are still its weights.

    Args:
        config: says where runs are recorded.
        model: the model folder.
        metrics: those that are numbers are recorded, as `PREFIX_...`.
        folder: of the reports.
        prefix: of the metrics' names.
        artifacts: folder of the run that gets the reports.
    """
    run = _run_of(config, model)
    if not run:
        return
    figures = {f"{prefix}_{name}": value for name, value in metrics.items() if isinstance(value, (int, float))}
    try:
        mlflow = connect(_store_of(run, config), config.tracking.experiment)
        mlflow.log_metrics(figures, run_id=run["run_id"])
        mlflow.MlflowClient().set_tag(run["run_id"], "dvc_model_hash", dvc_hash(model))
        mlflow.log_artifacts(str(folder), artifacts, run_id=run["run_id"])
        if Path("dvc.lock").is_file():  # by now it names the model
            mlflow.log_artifact("dvc.lock", run_id=run["run_id"])
    except Exception as error:  # the evaluation stands, whatever the server does
        logger.warning("warning: the evaluation is not recorded in run %s (%s)", run["run_name"], reason(error))


def download_model(config: Config, uri: str, folder: Path) -> None:
    """Put a registered model's folder on the disk, in the place of one that was there.

    Args:
        config: says where models are registered.
        uri: models:/NAME@ALIAS or models:/NAME/VERSION.
        folder: for the model.
    Raises:
        FileExistsError: if the folder holds something else.
        TrackingError: "no_registered_model" if it cannot be had.
    """
    check_replaceable(folder, CONFIG_FILE, MODEL_TYPE)
    store = tracking_uri(config)
    try:
        mlflow = import_mlflow(store)
        with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as temporary:
            downloaded = model_folder(Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch)))
            shutil.copytree(downloaded, temporary, dirs_exist_ok=True)
    except Exception as error:  # MLflow, SQLAlchemy and requests each raise their own
        raise TrackingError(f"{uri}: not to be had from {without_password(store)} ({reason(error)}); "
                            "`kws export` registers the models of tracked trainings",
                            "no_registered_model") from error


def _run_of(config: Config, model: Path) -> dict[str, str]:
    """Read which run made the weights that a model folder holds; empty if none did, or nothing is to be recorded."""
    run = read_run(model)
    is_its = bool(run) and config.tracking.enabled and run["weights"] == dvc_hash(model / WEIGHTS_FILE)
    return run if is_its else {}


def _store_of(run: Mapping[str, str], config: Config) -> str:
    """Where a run is recorded: as configured, or here, if the configured store could not be reached."""
    return connection.LOCAL_STORE if run.get("store") == connection.LOCAL_STORE else tracking_uri(config)
