"""Learning from a larger model's answers besides the labels.

G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531: the answers tell how
alike two words sound, which a label does not.
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from kws.errors import ModelError
from kws.modeling import KwsForAudioClassification
from kws.rarity import expect_keywords
from kws.runtime import load_torch_model

_TEMPERATURE = 2.0
_SHARE = 0.7  # of the loss; the labels keep the rest


class Teacher:
    """A trained model that another one learns from.

    Args:
        folder: its model folder.
        pupil: the model that learns; it must hear and answer as the teacher does.
        device: where both compute.

    Raises:
        ModelError: if the folder holds no model, or one with other labels, features or window ("other_teacher").
    """

    def __init__(self, folder: Path, pupil: KwsForAudioClassification, device: torch.device) -> None:
        self._model = load_torch_model(folder)
        self._model.to(device)  # type: ignore[arg-type]
        for key in ("id2label", "sample_rate", "num_samples", "features"):
            found, expected = getattr(self._model.config, key), getattr(pupil.config, key)
            if found != expected:
                raise ModelError(f"{folder}: a teacher with {key} {found}; expected those of its pupil, {expected}",
                                 "other_teacher")
        expect_keywords(self._model, rarity=1)  # a pupil's own wariness is added when it is finished

    def loss(self, labelled: torch.Tensor, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Add the divergence from the teacher's answers to the loss against the labels.

        Args:
            labelled: scalar, the loss against the labels.
            logits: [B, C], of the pupil.
            features: [B, 1, M, F], what the pupil saw.
        Returns:
            scalar.
        """
        with torch.no_grad():
            answers = self._model(input_features=features).logits
        divergence = F.kl_div(F.log_softmax(logits / _TEMPERATURE, dim=1),
                              F.log_softmax(answers / _TEMPERATURE, dim=1), reduction="batchmean", log_target=True)
        return (1 - _SHARE) * labelled + _SHARE * _TEMPERATURE ** 2 * divergence
