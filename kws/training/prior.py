"""Adjust the prior: keywords are rarer in use than in training."""
from __future__ import annotations

import math
from typing import cast

import torch

from kws.model.loading import labels_of
from kws.model.modeling import KwsForAudioClassification


@torch.no_grad()
def reweight_prior(model: KwsForAudioClassification, rarity: float) -> None:
    """Re-weight the priors so that keywords are `rarity` times rarer than in training.

    The ratio of other words to silence is unchanged. The logarithm of the ratio of both a priori odds is
    added to a label's logit (M. Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
    Neural Computation 14, 2002).

    Args:
        model: its classifier's bias and the rarity in its configuration are changed.
        rarity: above 0; 1 is as trained.
    """
    classifier = cast(torch.nn.Sequential, model.network.head)[-1]
    num_keywords = len(labels_of(model).keywords)
    classifier.get_parameter("bias")[num_keywords:] += math.log(rarity / model.config.keyword_rarity)
    model.config.keyword_rarity = rarity
