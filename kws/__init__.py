"""kws: a speech-command keyword spotter.

Shapes in docstrings, everywhere in this package:

    B  clips in a batch         T  samples of a clip
    M  mel bins                 F  frames of a spectrogram
    C  labels                   N  clips in a set

Waveforms are float32 in -1..1, mono, at the model's sample rate unless said otherwise; `waveform` is [T],
`waveforms` is [B, T].
"""

from kws.inference.decision import Prediction
from kws.inference.spotter import KeywordSpotter

__version__ = "0.2.0"
__all__ = ["KeywordSpotter", "Prediction"]
