"""The README.md of a model folder."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

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


def write_model_card(path: Path, config: PretrainedConfig, summary: dict[str, Any]) -> None:
    """Describe a model: what it answers, how good it is, how to use it.

    Args:
        path: of the card.
        config: a `KwsConfig`.
        summary: what `metrics.json` of the model folder holds.
    """
    names = [config.id2label[index] for index in range(config.num_labels)]
    path.write_text(_CARD.format(
        keywords=", ".join(names[:-2]), num_labels=config.num_labels, sample_rate=config.sample_rate,
        seconds=config.num_samples / config.sample_rate, num_parameters=summary["num_parameters"],
        epochs=summary["epochs"], seed=summary["seed"], **summary["validation"]), encoding="utf-8")
