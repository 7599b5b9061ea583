"""What training leaves in a model folder: the model, its figures, and the card that describes it."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from kws.config.sections import DataConfig
from kws.model.folder import CARD_FILE
from kws.model.modeling import KwsFeatureExtractor, KwsForAudioClassification

_CARD = """---
library_name: transformers
pipeline_tag: audio-classification
tags: [keyword-spotting]
---
# Keyword spotter: {keywords}

Answers one of {num_labels} labels for a window of {seconds:g} s at {sample_rate:,} Hz: the keywords, `_unknown_` for
other speech, `_silence_` for none. {num_parameters:,} parameters, log-mel front end inside.

{measured}

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

For single words, as commands to a device whose user notices and repeats what was misheard. It was measured on
{measured_on}: expect less of other accents, rooms, distances
and microphones. It sometimes takes other speech or noise for a keyword; a threshold on the confidence makes that rarer,
at the price of missed keywords. It does not know who speaks. Nothing that must not fail may depend on it alone.
"""
_NO_DATA = "Whose recordings it was trained on, `data.attribution` and `data.licence` of its configuration do not say."
_TRAINED = ("Validation, after epoch {kept_epoch} of {epochs} (seed {seed}): accuracy {accuracy:.2%}, macro-F1 "
            "{macro_f1:.2%}.")
_TAUGHT = "Taught by {recordings} recordings of {speakers} speaker(s) (seed {seed}). "
_LEFT_OUT = ("Of keywords left out in turn, by {by}, {found:.0%} were found ({low:.0%} to {high:.0%}) where "
             "{others_taken:.1%} of other words were taken for one.")
_UNASKED = " Not measured, as no recording could be left out: {}."
_UNMEASURED = "With so few recordings nothing could be left out to measure it."


def write_model_folder(folder: Path, model: KwsForAudioClassification, data: DataConfig,
                       summary: Mapping[str, Any]) -> None:
    """Write a model, `metrics.json` and the card into an empty folder.

    Args:
        folder: that is there.
        model: trained.
        data: what it was trained on.
        summary: the content of `metrics.json`.
    """
    model.save_pretrained(folder)
    KwsFeatureExtractor(data.sample_rate, data.num_samples).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    write_model_card(folder / CARD_FILE, data, summary)


def write_model_card(path: Path, data: DataConfig, summary: Mapping[str, Any]) -> None:
    """Describe a model: labels, accuracy, usage, data, limits.

    Args:
        path: of the card.
        data: what it was trained on.
        summary: what `metrics.json` of the model folder holds.
    """
    if "left_out" in summary:
        left_out = summary["left_out"]
        measured = _TAUGHT.format(**summary) + (_UNMEASURED if left_out is None else _left_out(left_out))
        measured_on = "the recordings that taught it, each left out in turn"
    else:
        measured = _TRAINED.format(**summary, **summary["validation"])
        measured_on = "the validation speakers of its own data, by whom its training was chosen"
    origin = (f"Trained on {data.attribution}." * bool(data.attribution),
              f"Licence of the recordings: {data.licence}" * bool(data.licence))
    path.write_text(_CARD.format(
        keywords=", ".join(data.keywords), num_labels=len(data.keywords) + 2, sample_rate=data.sample_rate,
        seconds=data.num_samples / data.sample_rate, data="\n".join(filter(None, origin)) or _NO_DATA,
        measured=measured, measured_on=measured_on, num_parameters=summary["num_parameters"]), encoding="utf-8")


def _left_out(left_out: Mapping[str, Any]) -> str:
    unasked = ", ".join(left_out["unasked"])
    return _LEFT_OUT.format(**left_out, low=left_out["interval"][0], high=left_out["interval"][1]) + (
        _UNASKED.format(unasked) if unasked else "")
