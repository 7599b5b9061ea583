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

Validation, best of {epochs} epochs (seed {seed}): accuracy {accuracy:.2%}, macro-F1 {macro_f1:.2%}.

```python
from transformers import pipeline
spot = pipeline("audio-classification", model="this folder", trust_remote_code=True)
spot({{"array": waveform, "sampling_rate": {sample_rate}}})   # waveform: float32 in -1..1
```
"""


def write_model_card(path: Path, keywords: Sequence[str], sample_rate: int, num_samples: int,
                     summary: Mapping[str, Any]) -> None:
    """Describe a model: what it answers, how good it is, how to use it.

    Args:
        path: of the card.
        keywords: words it spots.
        sample_rate: Hz.
        num_samples: samples of its window.
        summary: what `metrics.json` of the model folder holds.
    """
    path.write_text(_CARD.format(
        keywords=", ".join(keywords), num_labels=len(keywords) + 2, sample_rate=sample_rate,
        seconds=num_samples / sample_rate, num_parameters=summary["num_parameters"],
        epochs=summary["epochs"], seed=summary["seed"], **summary["validation"]), encoding="utf-8")
