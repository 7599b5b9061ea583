"""The model in MLflow's terms: logged with its signature and its code, registered if it is the best so far."""
from __future__ import annotations

import logging
import re
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import yaml

import kws
from kws.model.labels import LabelSet

logger = logging.getLogger(__name__)

CHAMPION = "champion"  # alias of the best version
SCORE = "validation_macro_f1"  # metric that selects the champion

_REQUIREMENTS = ("torch", "torchaudio", "transformers", "safetensors", "numpy", "pandas", "soundfile", "soxr")


def model_name(folder: Path) -> str:
    """Return what a model folder is called in MLflow, which refuses some characters: kws-0.2 is kws-0_2."""
    return re.sub(r"""[/:.%"']""", "_", folder.name)


def log_model(mlflow: ModuleType, folder: Path, labels: LabelSet, num_samples: int) -> str:
    """Log a model folder, with the package that answers from it, in the active run.

    Args:
        mlflow: connected.
        folder: the model folder.
        labels: of the model.
        num_samples: T of its window.
    Returns:
        the model's URI.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    package = Path(kws.__file__).parent
    inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, -1))])
    outputs = Schema([ColSpec("string", "label"), *(ColSpec("double", name) for name in ("confidence", *labels))])
    logged = mlflow.pyfunc.log_model(
        name=model_name(folder), python_model=str(package / "tracking/pyfunc.py"), code_paths=[str(package)],
        artifacts={"model": str(folder)}, signature=ModelSignature(inputs, outputs),
        input_example=np.zeros((1, num_samples), np.float32),
        pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS])
    return str(logged.model_uri)


def promote_if_better(mlflow: ModuleType, name: str, model_uri: str, score: float) -> None:
    """Register a logged model if it beats the champion of that name, and make it the champion.

    Args:
        mlflow: connected.
        name: of the registered model.
        model_uri: of the logged model.
        score: 0..1, its validation macro-F1.
    """
    client = mlflow.MlflowClient()
    models = client.search_registered_models(filter_string=f"name = '{name}'")
    champion = models[0].aliases.get(CHAMPION) if models else None
    if champion is not None and score <= float(client.get_model_version(name, champion).tags.get(SCORE, "-1")):
        return
    registered = mlflow.register_model(model_uri, name, tags={SCORE: repr(score)})
    client.set_registered_model_alias(name, CHAMPION, registered.version)
    logger.info("models:/%s@%s is now version %s", name, CHAMPION, registered.version)


def model_folder(downloaded: Path) -> Path:
    """Return the model folder within what MLflow keeps of a logged model."""
    description = yaml.safe_load((downloaded / "MLmodel").read_text(encoding="utf-8"))
    return downloaded / description["flavors"]["python_function"]["artifacts"]["model"]["path"]
