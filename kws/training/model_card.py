"""The README.md of a model folder."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

_CARD = """---
library_name: transformers
pipeline_tag: audio-classification
tags: [keyword-spotting]
---
# Keyword spotter: {keywords}

Answers one of {num_labels} labels for a window of {seconds:g} s at {sample_rate:,} Hz: the keywords, `_unknown_` for
other speech, `_silence_` for none. {num_parameters:,} parameters, log-mel front end inside.

Validation, after epoch {kept_epoch} of {epochs} (seed {seed}): accuracy {accuracy:.2%}, macro-F1 {macro_f1:.2%}.

```python
from transformers import pipeline
spot = pipeline("audio-classification", model="this folder", trust_remote_code=True)
spot({{"array": waveform, "sampling_rate": {sample_rate}}})   # waveform: float32 in -1..1
```

`kws.KeywordSpotter("this folder")` answers the same, without PyTorch where model.onnx is there, and hears recordings
longer than the window too.

## Data

{data}

## Use and limits

For single words, as commands to a device whose user notices and repeats what was misheard. It was measured on the
validation speakers of its own data, by whom its training was chosen: expect less of other accents, rooms, distances
and microphones. It sometimes takes other speech or noise for a keyword; a threshold on the confidence makes that rarer,
at the price of missed keywords. It does not know who speaks. Nothing that must not fail may depend on it alone.
"""
_NO_DATA = "Whose recordings it was trained on, `data.attribution` and `data.licence` of its configuration do not say."


def write_model_card(path: Path, keywords: Sequence[str], sample_rate: int, num_samples: int,
                     summary: Mapping[str, Any], attribution: str, licence: str) -> None:
    """Describe a model: labels, accuracy, usage, data, limits.

    Args:
        path: of the card.
        keywords: words it spots.
        sample_rate: Hz.
        num_samples: samples of its window.
        summary: what `metrics.json` of the model folder holds.
        attribution: whose recordings it was trained on; may be empty.
        licence: of the recordings; may be empty.
    """
    data = (f"Trained on {attribution}." * bool(attribution), f"Licence of the recordings: {licence}" * bool(licence))
    path.write_text(_CARD.format(
        keywords=", ".join(keywords), num_labels=len(keywords) + 2, sample_rate=sample_rate,
        seconds=num_samples / sample_rate, data="\n".join(filter(None, data)) or _NO_DATA,
        **summary, **summary["validation"]), encoding="utf-8")
