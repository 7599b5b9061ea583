"""Runs in MLflow: settings, metrics and results of a training.

A training must survive its tracking. The server is asked before the first epoch; from then on a call that fails is a
warning, once, and what could not be sent is sent at the end, if the server is back. The finished model is on the disk
before any of it leaves for the server.

`mlflow.transformers.autolog()` with the Trainer's `report_to=["mlflow"]` was considered. It ends the training when a
call fails, knows the Trainer's arguments but not the data or the augmentation, and logs a model without the decision.
So `EpochReporter`, a callback of the same Trainer, reports instead.

A model is registered when it has been exported: what the registry gives out answers without PyTorch.
"""
from __future__ import annotations

import getpass
import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from datetime import datetime
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Callable, Mapping, Optional
from urllib.parse import unquote

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kws.config.architecture import load_architecture
from kws.config.sections import Config
from kws.config.yaml_files import flatten
from kws.errors import TrackingError
from kws.files.atomic import atomic_file, atomic_folder, check_replaceable
from kws.inference.runtime import OnnxRuntime
from kws.model.folder import CONFIG_FILE, MODEL_TYPE, ONNX_FILE, WEIGHTS_FILE
from kws.tracking.provenance import dvc_hash, git_tags, machine
from kws.tracking.registry import SCORE, log_model, model_folder, promote_if_better

logger = logging.getLogger(__name__)

LOCAL_STORE = "sqlite:///mlflow.db"

_METRICS = {"loss": "training_loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm",
            "eval_loss": "validation_loss", "eval_accuracy": "validation_accuracy", "eval_macro_f1": SCORE}
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else minutes for a dead server
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


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
            problem = _explain(uri, error)
            if self._config.tracking.on_failure == "error" or uri == LOCAL_STORE:
                raise problem from error
            logger.warning("warning: %s; this one is recorded in %s", problem, LOCAL_STORE)
            self._start_here(problem, resume, tags)

    def _start_here(self, problem: TrackingError, resume: bool, tags: Mapping[str, str]) -> None:
        """Fall back to the local store, if configured."""
        try:
            if self._mlflow is not None and self._mlflow.active_run():  # it began before it failed
                self._attempt(lambda: self._mlflow.end_run("FAILED"))
            self._is_lost = False
            self._start(LOCAL_STORE, resume, tags)
        except Exception as error:
            raise TrackingError(f"{problem}; nor here: {_explain(LOCAL_STORE, error)}") from error

    def _start(self, uri: str, resume: bool, tags: Mapping[str, str]) -> None:
        config, checkpoints, store = self._config, self._config.training.checkpoints, _without_password(uri)
        self._mlflow = mlflow = _connect(uri, config.tracking.experiment)
        last = _read_run(checkpoints) if resume else {}
        if last and last.get("store", store) == store:
            _continue(mlflow, last, _run_file(checkpoints))
        else:
            mlflow.start_run(run_name=_run_name(config), log_system_metrics=True)
            mlflow.log_params(_parameters(config))
            mlflow.log_dict(_settings(config), "config.yaml")
        info = mlflow.active_run().info
        self._run = {"run_id": info.run_id, "run_name": info.run_name, "experiment": config.tracking.experiment,
                     "store": store}
        _write_run(checkpoints, self._run)
        mlflow.set_tags({**git_tags(), "machine": machine(), "seed": str(config.seed), **tags})
        self._log_data(config.data.root)
        logger.info("run %s is recorded in %s", info.run_name, store)

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
        _write_run(folder, {**self._run, "weights": str(dvc_hash(folder / WEIGHTS_FILE))})
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

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call the server; warn of the first failure."""
        try:
            action()
        except Exception as error:  # whatever it is, it is no reason to lose a training
            if not self._is_lost:
                logger.warning("warning: the run is no longer recorded (%s); the training goes on", _reason(error))
            self._is_lost = True


def build_tracker(config: Config, is_first: bool = True) -> Tracker:
    """Build the tracker that a configuration asks for; of several processes, the first one records."""
    return MlflowTracker(config) if config.tracking.enabled and is_first else Tracker()


def log_export(config: Config, model: Path) -> None:
    """Add an exported model to the run that made it, and register it if it is the best so far.

    Nothing happens if the model was not tracked, or the folder holds other weights by now.

    Args:
        config: says where runs are recorded.
        model: the model folder, exported.
    """
    run = _run_of(config, model)
    if not run:
        return
    try:
        mlflow = _connect(_store_of(run, config), config.tracking.experiment)
        mlflow.MlflowClient().set_tag(run["run_id"], "dvc_model_hash", dvc_hash(model))
        mlflow.log_artifacts(str(model), model.name, run_id=run["run_id"])
        score = json.loads((model / "metrics.json").read_text(encoding="utf-8"))["validation"]["macro_f1"]
        runtime = OnnxRuntime(model / ONNX_FILE)
        with mlflow.start_run(run_id=run["run_id"]):
            uri = log_model(mlflow, model, runtime.labels, runtime.num_samples)
        promote_if_better(mlflow, model.name, uri, score)
    except Exception as error:  # the export stands, whatever the server does
        logger.warning("warning: the export is not recorded in run %s (%s)", run["run_name"], _reason(error))


def log_evaluation(config: Config, model: Path, metrics: Mapping[str, Any], folder: Path) -> None:
    """Add an evaluation to the run that made the model, if it was tracked and these are still its weights.

    Args:
        config: says where runs are recorded.
        model: the model folder.
        metrics: those that are numbers are recorded, as `testing_...`.
        folder: of the reports.
    """
    run = _run_of(config, model)
    if not run:
        return
    figures = {f"testing_{name}": value for name, value in metrics.items() if isinstance(value, (int, float))}
    try:
        mlflow = _connect(_store_of(run, config), config.tracking.experiment)
        mlflow.log_metrics(figures, run_id=run["run_id"])
        mlflow.MlflowClient().set_tag(run["run_id"], "dvc_model_hash", dvc_hash(model))
        mlflow.log_artifacts(str(folder), "evaluation", run_id=run["run_id"])
        if Path("dvc.lock").is_file():  # by now it names the model
            mlflow.log_artifact("dvc.lock", run_id=run["run_id"])
    except Exception as error:  # the evaluation stands, whatever the server does
        logger.warning("warning: the evaluation is not recorded in run %s (%s)", run["run_name"], _reason(error))


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
        mlflow = _import_mlflow(store)
        with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as temporary:
            downloaded = model_folder(Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch)))
            shutil.copytree(downloaded, temporary, dirs_exist_ok=True)
    except Exception as error:  # MLflow, SQLAlchemy and requests each raise their own
        raise TrackingError(f"{uri}: not to be had from {_without_password(store)} ({_reason(error)}); "
                            "`kws export` registers the models of tracked trainings",
                            "no_registered_model") from error


def tracking_uri(config: Config) -> str:
    """Where runs are recorded: MLFLOW_TRACKING_URI, else what the configuration says."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.tracking.uri


def _import_mlflow(uri: str) -> ModuleType:
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


def _connect(uri: str, experiment: str) -> ModuleType:
    """Make sure of the store and the experiment.

    Raises:
        TrackingError: "deleted_experiment".
    """
    mlflow = _import_mlflow(uri)
    found = mlflow.get_experiment_by_name(experiment)
    if found is None:
        database = uri.removeprefix("sqlite:///")
        beside = (Path(database).resolve().parent / "mlruns").as_uri() if database != uri else None
        mlflow.create_experiment(experiment, artifact_location=beside)
    elif found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"{_without_password(uri)}: the experiment {experiment!r} was deleted there; restore it with `mlflow "
            f"experiments restore --experiment-id {found.experiment_id}`, where MLFLOW_TRACKING_URI names that store, "
            "or name another with --set tracking.experiment=NAME", "deleted_experiment")
    mlflow.set_experiment(experiment)
    return mlflow


def _continue(mlflow: ModuleType, run: Mapping[str, str], pointer: Path) -> None:
    """Continue an earlier run; raise TrackingError "no_run" where it is gone."""
    try:
        mlflow.start_run(run_id=run["run_id"], log_system_metrics=True)
    except mlflow.exceptions.MlflowException as error:
        raise TrackingError(
            f"the run {run['run_name']} cannot be continued ({_reason(error)}); if it was deleted, restore it with "
            f"`mlflow runs restore --run-id {run['run_id']}`, or delete {pointer} to record the rest in a new run",
            "no_run") from error


def _explain(uri: str, error: BaseException) -> TrackingError:
    """Say why runs cannot be recorded in a store, and what helps against that."""
    if isinstance(error, TrackingError):
        return error
    elsewhere = "" if uri == LOCAL_STORE else "--set tracking.on_failure=local or "
    remedy = "start the server, set MLFLOW_TRACKING_URI" if uri.startswith(("http:", "https:")) else \
        "make it a database of MLflow's that can be written, set MLFLOW_TRACKING_URI to another"
    return TrackingError(f"{_without_password(uri)}: runs cannot be recorded there ({_reason(error, uri)}); {remedy}, "
                         f"or train with {elsewhere}--set tracking.enabled=false")


def _run_name(config: Config) -> str:
    """Make a name that can be told from others in the few letters that MLflow's tables show."""
    return f"{config.architecture.stem}-seed{config.seed}-{datetime.now():%m%d-%H%M%S}"


def _settings(config: Config) -> dict[str, Any]:
    """Return the configuration in plain values, without a password."""
    tree = config.model_dump(mode="json")
    return {**tree, "tracking": {**tree["tracking"], "uri": _without_password(config.tracking.uri)}}


def _parameters(config: Config) -> dict[str, str]:
    """Flatten the settings and the architecture; what is no word is JSON, so that types can be read back."""
    tree = {**_settings(config), "network": load_architecture(config.architecture).model_dump(mode="json")}
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


def _run_of(config: Config, model: Path) -> dict[str, str]:
    """Read which run made the weights that a model folder holds; empty if none did, or nothing is to be recorded."""
    run = _read_run(model)
    is_its = bool(run) and config.tracking.enabled and run["weights"] == dvc_hash(model / WEIGHTS_FILE)
    return run if is_its else {}


def _store_of(run: Mapping[str, str], config: Config) -> str:
    """Where a run is recorded: as configured, or here, if the configured store could not be reached."""
    return LOCAL_STORE if run.get("store") == LOCAL_STORE else tracking_uri(config)


def _without_password(text: str) -> str:
    """Remove credentials from a URI, or from a text that quotes some: user and password, tokens in a query.

    A password with an unescaped @, / or : is not told from the host by its place, so all before the last @ goes.
    """
    text = re.sub(r"^(\w[\w+.-]*://)(?!/).*@", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"((?:\w[\w+.-]*:)?(?<!/)//(?!/))[^\s\"'<>]*@", r"\1", text)
    return re.sub(r"([?&;][^=\s&;]*(?:pass|pwd|token|secret|key|auth|sig)[^=\s&;]*=)[^\s&;\"'<>)]*", r"\1...", text,
                  flags=re.IGNORECASE)


def _reason(error: BaseException, uri: str = "") -> str:
    """The first line of what went wrong, without a password of the URI that it may quote, whole or in parts."""
    text = (str(error) or type(error).__name__).splitlines()[0].replace(uri, _without_password(uri))
    _, _, behind = uri.partition("//")
    user, _, secret = behind.rpartition("@")[0].partition(":")
    parts = {part for text in (secret or user, unquote(secret or user)) for part in (text, *re.split("[@:/]", text))}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "...") if len(part) > 2 else text
    return _without_password(text)[:200]
