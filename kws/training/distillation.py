"""Learning from the answers of trained models besides the labels.

G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531: the answers tell how
alike two words sound, which a label does not. Teachers and student see the same augmented clip, and the student trains
long: L. Beyer et al., "Knowledge Distillation: A Good Teacher is Patient and Consistent", arXiv:2106.05237.
"""
from __future__ import annotations

from pathlib import Path
from typing import Sequence

import torch
from torch.nn import functional as F

from kws.errors import ModelError
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.training.prior import reweight_prior

_TEMPERATURE = 2.0
_SHARE = 0.7  # of the loss; the labels keep the rest


class Teachers:
    """Trained models whose mean answer another one learns.

    Args:
        folders: their model folders, at least one.
        student: the model that learns; it must hear and answer as its teachers do.
        device: where all compute.

    Raises:
        ModelError: if a folder holds no model, or one with other labels, features or window ("other_teacher").
    """

    def __init__(self, folders: Sequence[Path], student: KwsForAudioClassification, device: torch.device) -> None:
        self._models = [_load(folder, student, device) for folder in folders]

    def loss(self, labelled: torch.Tensor, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Add the divergence from the teachers' answers to the loss against the labels.

        Args:
            labelled: scalar, the loss against the labels.
            logits: [B, C], of the student.
            features: [B, 1, M, F], what the student saw.
        Returns:
            scalar.
        """
        divergence = F.kl_div(F.log_softmax(logits / _TEMPERATURE, dim=1), self._answers(features),
                              reduction="batchmean")
        return (1 - _SHARE) * labelled + _SHARE * _TEMPERATURE ** 2 * divergence

    @torch.no_grad()
    def _answers(self, features: torch.Tensor) -> torch.Tensor:
        """[B, 1, M, F] -> [B, C] mean probabilities, softened by the temperature."""
        answers = [F.softmax(model(input_features=features).logits / _TEMPERATURE, dim=1) for model in self._models]
        return torch.stack(answers).mean(dim=0)


def _load(folder: Path, student: KwsForAudioClassification, device: torch.device) -> KwsForAudioClassification:
    model = load_torch_model(folder)
    for key in ("id2label", "sample_rate", "num_samples", "features"):
        found, expected = getattr(model.config, key), getattr(student.config, key)
        if found != expected:
            raise ModelError(f"{folder}: a teacher with {key} {found}; expected those of its student, {expected}",
                             "other_teacher")
    reweight_prior(model, rarity=1)  # the student's own prior is set when it is finished
    model.to(device)  # type: ignore[arg-type]
    return model
