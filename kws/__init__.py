"""kws: a speech-command keyword spotter.

Shapes in docstrings, everywhere in this package:

    B  clips in a batch         T  samples of a clip
    M  mel bins                 F  frames of a spectrogram
    C  labels                   N  clips in a set

Waveforms are float32 in -1..1, mono, at the model's sample rate unless said otherwise; `waveform` is [T],
`waveforms` is [B, T].
"""

from kws.inference import KeywordSpotter
from kws.postprocess import Prediction

__version__ = "0.1.0"
__all__ = ["KeywordSpotter", "Prediction"]
