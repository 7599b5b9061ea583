"""The old name of `kws.model.modeling`, for one version."""
import warnings

from kws.model.modeling import KwsConfig, KwsFeatureExtractor, KwsForAudioClassification, build_model

__all__ = ["KwsConfig", "KwsFeatureExtractor", "KwsForAudioClassification", "build_model"]
warnings.warn("kws.modeling is now kws.model.modeling", FutureWarning, stacklevel=2)
