"""Runs in MLflow: what a training was asked, how it went, what came out.

A training must survive its tracking. The server is asked before the first epoch; from then on a call that fails is a
warning, once, and what could not be sent is sent at the end, if the server is back. The finished model is on the disk
before any of it leaves for the server.

`mlflow.transformers.autolog()` with the Trainer's `report_to=["mlflow"]` was considered. It ends the training when a
call fails, knows the Trainer's arguments but not the data or the augmentation, and logs a model without the decision.
So `EpochReporter`, a callback of the same Trainer, reports instead.
"""
from __future__ import annotations

import json
import logging
import os
import re
import warnings
from datetime import datetime
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Callable, Mapping, Optional

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kws.architecture import load_architecture
from kws.atomic import atomic_file
from kws.config import Config
from kws.documents import flatten
from kws.errors import TrackingError
from kws.labels import LabelSet
from kws.provenance import dvc_hash, git_tags, machine
from kws.registry import SCORE, crown, log_model

logger = logging.getLogger(__name__)

LOCAL_STORE = "sqlite:///mlflow.db"

_WEIGHTS = "model.safetensors"
_METRICS = {"loss": "training_loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm",
            "eval_loss": "validation_loss", "eval_accuracy": "validation_accuracy", "eval_macro_f1": SCORE}
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else minutes for a dead server
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class Tracker:
    """What a training reports to. This one keeps nothing: the tracker of an untracked training."""

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """End the run, as finished, failed or, after Ctrl-C, killed."""

    def start(self, resume: bool, tags: Mapping[str, str]) -> None:
        """Begin a run or, with `resume`, continue the one that the checkpoints belong to.

        Raises:
            TrackingError: if runs cannot be recorded.
        """

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record figures of an epoch."""

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Record the final figures, `validation_macro_f1` among them, and the model folder, which is written."""


class EpochReporter(TrainerCallback):
    """Report to a tracker what the `Trainer` logs."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
               logs: Optional[Mapping[str, float]] = None, **kwargs: Any) -> None:
        """Pass on the figures of training or validation."""
        figures = {_METRICS[name]: float(value) for name, value in (logs or {}).items() if name in _METRICS}
        if figures and state.is_world_process_zero:
            self.tracker.log_epoch(round(state.epoch or 0), figures)


class MlflowTracker(Tracker):
    """Records a training as a run of MLflow.

    Args:
        config: of the training.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._run: dict[str, str] = {}
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._is_lost = False
        self._mlflow: Any = None

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """End the run."""
        if self._run:
            status = "FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED"
            self._attempt(lambda: self._mlflow.end_run(status))

    def start(self, resume: bool, tags: Mapping[str, str]) -> None:
        """Begin or continue a run."""
        uri, settings = tracking_uri(self._config), self._config.tracking
        try:
            self._start(uri, resume, tags)
        except Exception as error:  # MLflow, SQLAlchemy and requests each raise their own
            message = f"{_without_password(uri)}: runs cannot be recorded there ({_reason(error)})"
            if settings.on_failure == "error":
                raise TrackingError(f"{message}; start the server, set MLFLOW_TRACKING_URI, or train with --set "
                                    "tracking.on_failure=local or --set tracking.enabled=false") from error
            logger.warning("warning: %s; this one is recorded in %s", message, LOCAL_STORE)
            self._start(LOCAL_STORE, resume, tags)

    def _start(self, uri: str, resume: bool, tags: Mapping[str, str]) -> None:
        config, checkpoints = self._config, self._config.training.checkpoints
        self._mlflow = mlflow = _connect(uri, config.tracking.experiment)
        last = _read_run(checkpoints) if resume else {}
        if last:
            mlflow.start_run(run_id=last["run_id"], log_system_metrics=True)
        else:
            mlflow.start_run(run_name=_run_name(config), log_system_metrics=True)
            mlflow.log_params(_parameters(config))
            mlflow.log_dict(config.model_dump(mode="json"), "config.yaml")
        info = mlflow.active_run().info
        self._run = {"run_id": info.run_id, "run_name": info.run_name, "experiment": config.tracking.experiment}
        _write_run(checkpoints, self._run)
        mlflow.set_tags({**git_tags(), "machine": machine(), "seed": str(config.seed), **tags})
        self._log_data(config.data.root)
        logger.info("run %s is recorded in %s", info.run_name, _without_password(uri))

    def _log_data(self, root: Path) -> None:
        """Name the recordings by the md5 that DVC gives them."""
        from mlflow.data.dataset_source_registry import resolve_dataset_source
        from mlflow.data.meta_dataset import MetaDataset
        digest = dvc_hash(root)
        if digest is not None:  # the prepared store may be here without them
            self._mlflow.set_tag("dvc_data_hash", digest)
            with warnings.catch_warnings():  # MLflow knows two names of one kind of source
                warnings.simplefilter("ignore", UserWarning)
                source = resolve_dataset_source(str(root))
            dataset = MetaDataset(  # type: ignore[abstract]  # MLflow's own declaration
                source, name=root.name, digest=digest.removesuffix(".dir"))
            self._mlflow.log_input(dataset, context="training")

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record figures of an epoch; what cannot be sent waits for the end."""
        self._waiting.append((epoch, dict(metrics)))
        if not self._is_lost:
            self._attempt(self._send_waiting)

    def _send_waiting(self) -> None:
        while self._waiting:
            epoch, metrics = self._waiting[0]
            self._mlflow.log_metrics(metrics, step=epoch)
            del self._waiting[0]

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Record the result; if the server was away, this tries once more."""
        folder = self._config.training.model
        _write_run(folder, {**self._run, "weights": str(dvc_hash(folder / _WEIGHTS))})
        self._attempt(lambda: self._send_result(folder, metrics))

    def _send_result(self, folder: Path, metrics: Mapping[str, float]) -> None:
        self._send_waiting()
        self._mlflow.log_metrics({f"final_{name}": value for name, value in metrics.items()})
        self._mlflow.set_tag("dvc_model_hash", dvc_hash(folder))
        self._mlflow.log_artifacts(str(folder), folder.name)
        for file in (self._config.training.checkpoints.with_suffix(".log"), Path("reports/data.html"),
                     Path("reports/data.json"), Path("dvc.lock")):
            if file.is_file():
                self._mlflow.log_artifact(str(file))
        data = self._config.data
        uri = log_model(self._mlflow, folder, LabelSet.from_keywords(data.keywords), data.num_samples)
        crown(self._mlflow, folder.name, uri, metrics[SCORE])

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do what the server may refuse; warn of the first failure."""
        try:
            action()
        except Exception as error:  # whatever it is, it is no reason to lose a training
            if not self._is_lost:
                logger.warning("warning: the run is no longer recorded (%s); the training goes on", _reason(error))
            self._is_lost = True


def build_tracker(config: Config) -> Tracker:
    """Build the tracker that a configuration asks for; of several processes, the first one records."""
    is_recorded = config.tracking.enabled and os.environ.get("RANK", "0") == "0"
    return MlflowTracker(config) if is_recorded else Tracker()


def log_evaluation(config: Config, model: Path, metrics: Mapping[str, Any], folder: Path) -> None:
    """Add an evaluation to the run that made the model, if it was tracked and these are still its weights.

    The run learns once more what DVC names the folder: an export may have added files since.

    Args:
        config: says where runs are recorded.
        model: the model folder.
        metrics: those that are numbers are recorded, as `testing_...`.
        folder: of the reports.
    """
    run = _read_run(model)
    if not config.tracking.enabled or not run or run["weights"] != dvc_hash(model / _WEIGHTS):
        return
    figures = {f"testing_{name}": value for name, value in metrics.items() if isinstance(value, (int, float))}
    try:
        mlflow = _connect(tracking_uri(config), config.tracking.experiment)
        mlflow.log_metrics(figures, run_id=run["run_id"])
        mlflow.MlflowClient().set_tag(run["run_id"], "dvc_model_hash", dvc_hash(model))
        mlflow.log_artifacts(str(folder), "evaluation", run_id=run["run_id"])
        if Path("dvc.lock").is_file():  # by now it names the model
            mlflow.log_artifact("dvc.lock", run_id=run["run_id"])
    except Exception as error:  # the evaluation stands, whatever the server does
        logger.warning("warning: the evaluation is not recorded in run %s (%s)", run["run_name"], _reason(error))


def tracking_uri(config: Config) -> str:
    """Where runs are recorded: MLFLOW_TRACKING_URI, else what the configuration says."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.tracking.uri


def _connect(uri: str, experiment: str) -> ModuleType:
    """Import MLflow, which takes seconds, and make sure of the store and the experiment."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    if mlflow.get_experiment_by_name(experiment) is None:
        database = uri.removeprefix("sqlite:///")
        beside = (Path(database).resolve().parent / "mlruns").as_uri() if database != uri else None
        mlflow.create_experiment(experiment, artifact_location=beside)
    mlflow.set_experiment(experiment)
    return mlflow


def _run_name(config: Config) -> str:
    """Make a name that can be told from others in the few letters that MLflow's tables show."""
    return f"{config.architecture.stem}-seed{config.seed}-{datetime.now():%m%d-%H%M%S}"


def _parameters(config: Config) -> dict[str, str]:
    """Flatten the settings and the architecture; what is no word is JSON, so that types can be read back."""
    tree = {**config.model_dump(mode="json"), "network": load_architecture(config.architecture).model_dump(mode="json")}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flatten(tree).items()}


def _run_file(folder: Path) -> Path:
    """Beside the folder, not in it: DVC's outputs are to be the same for the same inputs, and no run is."""
    return folder.with_name(f"{folder.name}.run.json")


def _write_run(folder: Path, run: Mapping[str, str]) -> None:
    with atomic_file(_run_file(folder)) as path:
        path.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def _read_run(folder: Path) -> dict[str, str]:
    """Read which run a folder belongs to; empty if it belongs to none."""
    path = _run_file(folder)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, without a password that it may quote."""
    return _without_password((str(error) or type(error).__name__).splitlines()[0])[:200]
