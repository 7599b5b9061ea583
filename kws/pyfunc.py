"""The model as MLflow keeps it: `mlflow.pyfunc.load_model(uri).predict(waveforms)`.

MLflow runs this file where the model is loaded, beside a copy of the package that was logged with it ("models from
code"); nothing is pickled.
"""
from __future__ import annotations

from typing import Any, Optional

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from kws.labels import LabelSet
from kws.modeling import KwsFeatureExtractor, KwsForAudioClassification
from kws.postprocess import decide


class SpotterModel(PythonModel):
    """A model folder behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged as the artefact `model`."""
        folder = context.artifacts["model"]
        self.model = KwsForAudioClassification.from_pretrained(folder, local_files_only=True).eval()
        self.extractor = KwsFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self.labels = LabelSet.from_id2label(self.model.config.id2label)

    @torch.inference_mode()
    def predict(self, context: PythonModelContext, model_input: np.ndarray,
                params: Optional[dict[str, Any]] = None) -> pd.DataFrame:
        """Answer for a batch.

        Args:
            context: what `load_context` was given.
            model_input: [B, T'] float32 in -1..1, mono, at the model's rate; the middle of a clip counts.
            params: none are known.
        Returns:
            B rows: `label`, `confidence`, then the probability of every label.
        """
        windows = self.extractor(model_input, return_tensors="pt")
        predictions = decide(self.model(**windows).logits.numpy(), self.labels)
        return pd.DataFrame([{"label": prediction.label, "confidence": prediction.confidence, **prediction.confidences}
                             for prediction in predictions])


mlflow.models.set_model(SpotterModel())
