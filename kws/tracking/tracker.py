"""Runs in MLflow: settings, metrics and results of a training.

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
import warnings
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Mapping, Optional

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kws.config.architecture import configured_architecture
from kws.config.sections import Config
from kws.config.yaml_files import flatten
from kws.errors import TrackingError
from kws.model.folder import WEIGHTS_FILE
from kws.tracking import connection
from kws.tracking.connection import connect, continue_run, explain, tracking_uri
from kws.tracking.credentials import reason, without_password
from kws.tracking.provenance import dvc_hash, git_tags, machine
from kws.tracking.registry import SCORE
from kws.tracking.run_file import read_run, run_file, write_run

logger = logging.getLogger(__name__)

_METRICS = {"loss": "training_loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm",
            "eval_loss": "validation_loss", "eval_accuracy": "validation_accuracy", "eval_macro_f1": SCORE}


class Tracker:
    """Interface of trackers; this one records nothing."""

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
        """Record the final figures and the model folder, which is written."""


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
        uri = tracking_uri(self._config)
        try:
            self._start(uri, resume, tags)
        except Exception as error:  # MLflow, SQLAlchemy and requests each raise their own
            problem = explain(uri, error)
            if self._config.tracking.on_failure == "error" or uri == connection.LOCAL_STORE:
                raise problem from error
            logger.warning("warning: %s; this one is recorded in %s", problem, connection.LOCAL_STORE)
            self._start_here(problem, resume, tags)

    def _start_here(self, problem: TrackingError, resume: bool, tags: Mapping[str, str]) -> None:
        """Fall back to the local store, if configured."""
        try:
            if self._mlflow is not None and self._mlflow.active_run():  # it began before it failed
                self._attempt(lambda: self._mlflow.end_run("FAILED"))
            self._is_lost = False
            self._start(connection.LOCAL_STORE, resume, tags)
        except Exception as error:
            raise TrackingError(f"{problem}; nor here: {explain(connection.LOCAL_STORE, error)}") from error

    def _start(self, uri: str, resume: bool, tags: Mapping[str, str]) -> None:
        config, checkpoints, store = self._config, self._config.training.checkpoints, without_password(uri)
        self._mlflow = mlflow = connect(uri, config.tracking.experiment)
        last = read_run(checkpoints) if resume else {}
        if last and last.get("store", store) == store:
            continue_run(mlflow, last, run_file(checkpoints))
        else:
            mlflow.start_run(run_name=_run_name(config), log_system_metrics=True)
            mlflow.log_params(_parameters(config))
            mlflow.log_dict(_settings(config), "config.yaml")
        info = mlflow.active_run().info
        self._run = {"run_id": info.run_id, "run_name": info.run_name, "experiment": config.tracking.experiment,
                     "store": store}
        write_run(checkpoints, self._run)
        mlflow.set_tags({**git_tags(), "machine": machine(), "seed": str(config.seed), **tags})
        self._log_data(config.data.root)
        logger.info("run %s is recorded in %s", info.run_name, store)

    def _log_data(self, root: Path) -> None:
        """Name the recordings by the md5 that DVC gives them."""
        from mlflow.data.dataset_source_registry import resolve_dataset_source
        from mlflow.data.meta_dataset import MetaDataset
        try:
            digest = dvc_hash(root)
        except Exception as error:  # DVC's libraries raise their own
            logger.warning("warning: %s: cannot be hashed (%s); the run has no dvc_data_hash", root, reason(error))
            return
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
        write_run(folder, {**self._run, "weights": str(dvc_hash(folder / WEIGHTS_FILE))})
        self._attempt(lambda: self._send_result(folder, metrics))

    def _send_result(self, folder: Path, metrics: Mapping[str, float]) -> None:
        self._send_waiting()
        self._mlflow.log_metrics({f"final_{name}": value for name, value in metrics.items()})
        self._mlflow.set_tag("dvc_model_hash", dvc_hash(folder))
        self._mlflow.log_artifacts(str(folder), folder.name)
        for file in (self._config.training.log_file(), Path("reports/data.html"),
                     Path("reports/data.json"), Path("dvc.lock")):
            if file.is_file():
                self._mlflow.log_artifact(str(file))

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call the server; warn of the first failure."""
        try:
            action()
        except Exception as error:  # whatever it is, it is no reason to lose a training
            if not self._is_lost:
                logger.warning("warning: the run is no longer recorded (%s); the training goes on", reason(error))
            self._is_lost = True


def build_tracker(config: Config, is_first: bool = True) -> Tracker:
    """Build the tracker that a configuration asks for; of several processes, the first one records."""
    return MlflowTracker(config) if config.tracking.enabled and is_first else Tracker()


def _run_name(config: Config) -> str:
    """Make a name that can be told from others in the few letters that MLflow's tables show."""
    return f"{config.architecture.stem}-seed{config.seed}-{datetime.now():%m%d-%H%M%S}"


def _settings(config: Config) -> dict[str, Any]:
    """Return the configuration in plain values, without a password."""
    tree = config.model_dump(mode="json")
    return {**tree, "tracking": {**tree["tracking"], "uri": without_password(config.tracking.uri)}}


def _parameters(config: Config) -> dict[str, str]:
    """Flatten the settings and the architecture; what is no word is JSON, so that types can be read back."""
    tree = {**_settings(config), "network": configured_architecture(config).as_json()}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flatten(tree).items()}
