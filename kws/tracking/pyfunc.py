"""The model as MLflow keeps it: `mlflow.pyfunc.load_model(uri).predict(waveforms)`.

MLflow runs this file where the model is loaded, beside a copy of the package that was logged with it ("models from
code"); nothing is pickled.
"""
from __future__ import annotations

from typing import Any, Optional

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from kws.errors import AudioError
from kws.inference.spotter import KeywordSpotter


class SpotterModel(PythonModel):
    """A model folder behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged as the artefact `model`."""
        self.spotter = KeywordSpotter(context.artifacts["model"])

    def predict(self, context: PythonModelContext, model_input: np.ndarray,
                params: Optional[dict[str, Any]] = None) -> pd.DataFrame:
        """Answer for a batch.

        Args:
            context: what `load_context` was given.
            model_input: [B, T'] float32 in -1..1, mono, at the model's rate.
            params: none are known.
        Returns:
            B rows: `label`, `confidence`, then the probability of every label.
        Raises:
            AudioError: if a clip holds NaN or nothing.
        """
        rows = []
        for answer in self.spotter.classify(list(model_input)):
            if isinstance(answer, AudioError):
                raise answer
            rows.append({"label": answer.label, "confidence": answer.confidence, **answer.confidences})
        return pd.DataFrame(rows)


mlflow.models.set_model(SpotterModel())
