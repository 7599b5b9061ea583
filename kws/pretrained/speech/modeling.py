"""The model in Hugging Face terms: raw waveforms in, logits out, the front end inside.

Relative imports, because `save_pretrained` copies this module and those it names into the model folder, from where
`trust_remote_code=True` loads them without `kws`.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np
import torch
from torch import nn
from transformers import (AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, BatchFeature,
                          PretrainedConfig, PreTrainedModel, SequenceFeatureExtractor)
from transformers.modeling_outputs import SequenceClassifierOutput

from .features import LogMel
from .network import build_network
from .window import pad_or_crop


class KwsConfig(PretrainedConfig):
    """What travels with the weights.

    Args:
        sample_rate: Hz.
        num_samples: T, samples of the window.
        features: keyword arguments of `LogMel`, without the sample rate.
        architecture: the network, as an architecture file describes it.
        keyword_rarity: how many times rarer than in training the model takes keywords to be.
        detector: the rule for running sound, keyword arguments of `DetectorSettings`; empty for a model of clips.
        kwargs: `id2label` and `label2id`, and what Hugging Face keeps there.

    Raises:
        ValueError: if `keyword_rarity` is not a number above 0, as after an edit of the file.
    """

    model_type = "kws"

    def __init__(self, sample_rate: int = 16000, num_samples: int = 16000, features: Optional[dict[str, Any]] = None,
                 architecture: Optional[dict[str, Any]] = None, keyword_rarity: float = 1.0,
                 detector: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        self.sample_rate = sample_rate
        self.num_samples = num_samples
        self.features = features or {}
        self.architecture = architecture or {}
        if not (isinstance(keyword_rarity, (int, float)) and 0 < keyword_rarity < float("inf")):
            raise ValueError(f"keyword_rarity: found {keyword_rarity!r}; expected a number above 0")
        self.keyword_rarity = keyword_rarity
        self.detector = detector or {}
        super().__init__(**kwargs)


class KwsForAudioClassification(PreTrainedModel):
    """Log-mel front end and CNN: `input_values` [B, T] -> `logits` [B, C].

    Raises:
        ValueError: if the architecture's sizes do not fit each other.
    """

    config_class = KwsConfig
    main_input_name = "input_values"

    def __init__(self, config: KwsConfig) -> None:
        super().__init__(config)
        self.features = LogMel(sample_rate=config.sample_rate, **config.features)
        self.network = build_network(config.architecture, len(config.id2label or {}), config.features["num_mels"])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as PyTorch does; Hugging Face's default would draw convolutions from N(0, 0.02)."""
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            module.reset_parameters()

    def forward(self, input_values: Optional[torch.Tensor] = None, input_features: Optional[torch.Tensor] = None,
                labels: Optional[torch.Tensor] = None) -> SequenceClassifierOutput:
        """Classify a batch.

        Args:
            input_values: [B, T] float32 waveforms in -1..1 at the model's sample rate.
            input_features: [B, 1, M, F] log-mel energies, in place of waveforms (training masks them).
            labels: [B] int64; adds the cross-entropy loss.
        """
        if input_features is None:
            input_features = self.features(input_values)
        logits = self.network(input_features)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class KwsFeatureExtractor(SequenceFeatureExtractor):
    """Bring waveforms of any length to the model's window; the spectrogram is the model's own work."""

    model_input_names = ["input_values"]

    def __init__(self, sampling_rate: int = 16000, num_samples: int = 16000, **kwargs: Any) -> None:
        kwargs.pop("feature_size", None)
        kwargs.pop("padding_value", None)
        super().__init__(feature_size=1, sampling_rate=sampling_rate, padding_value=0.0, **kwargs)
        self.num_samples = num_samples

    def __call__(self, raw_speech: Union[np.ndarray, Sequence[np.ndarray]], sampling_rate: Optional[int] = None,
                 return_tensors: Optional[str] = None, **kwargs: Any) -> BatchFeature:
        """[T'], [B, T'] or a list of [T'], as arrays, tensors or lists of numbers -> `input_values` [B, T] float32.

        Raises:
            ValueError: if `sampling_rate` is not the model's, or a waveform is not one-dimensional.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(f"sampling_rate: found {sampling_rate} Hz; expected {self.sampling_rate} Hz")
        if not isinstance(raw_speech, (list, tuple)):
            raw_speech = np.asarray(raw_speech)
        is_flat = isinstance(raw_speech, np.ndarray) and raw_speech.ndim < 2
        single = is_flat or len(raw_speech) > 0 and np.ndim(raw_speech[0]) == 0
        waveforms = [np.asarray(waveform, dtype=np.float32) for waveform in ([raw_speech] if single else raw_speech)]
        if not waveforms or any(waveform.ndim != 1 for waveform in waveforms):
            shapes = sorted({waveform.shape for waveform in waveforms})
            raise ValueError(f"found {len(waveforms)} arrays of shapes {shapes[:4]}; expected mono waveforms [T]")
        windows = np.stack([pad_or_crop(waveform, self.num_samples) for waveform in waveforms])
        return BatchFeature({"input_values": windows}, tensor_type=return_tensors)


def build_model(labels: Sequence[str], sample_rate: int, num_samples: int, features: Mapping[str, Any],
                architecture: Mapping[str, Any]) -> KwsForAudioClassification:
    """Build an untrained model for these labels.

    Raises:
        ValueError: if the architecture's sizes do not fit each other.
    """
    config = KwsConfig(
        sample_rate=sample_rate, num_samples=num_samples, features=dict(features), architecture=dict(architecture),
        id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)})
    return KwsForAudioClassification(config)


AutoConfig.register("kws", KwsConfig)
AutoModelForAudioClassification.register(KwsConfig, KwsForAudioClassification)
AutoFeatureExtractor.register(KwsConfig, KwsFeatureExtractor)
KwsConfig.register_for_auto_class()
KwsForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
KwsFeatureExtractor.register_for_auto_class()
