"""How likely other words are, beside what a model was trained on."""
from __future__ import annotations

import math
from typing import cast

import torch

from kws.labels import UNKNOWN
from kws.modeling import KwsForAudioClassification
from kws.runtime import labels_of


@torch.no_grad()
def expect_unknown(model: KwsForAudioClassification, odds: float) -> None:
    """Make a model take `_unknown_` to be `odds` times likelier than it was in training, whatever it took it to be.

    The logarithm of the ratio of both a priori odds is added to a label's logit (M. Saerens et al., "Adjusting the
    Outputs of a Classifier to New a Priori Probabilities", Neural Computation 14, 2002).

    Args:
        model: its classifier's bias and the odds in its configuration are changed.
        odds: above 0; 1 is as trained.
    """
    classifier = cast(torch.nn.Sequential, model.network.head)[-1]
    bias = classifier.get_parameter("bias")
    bias[labels_of(model).index(UNKNOWN)] += math.log(odds / model.config.unknown_odds)
    model.config.unknown_odds = odds
