"""A typical FastAPI service with a transformers pipeline, for comparison only.

usage: KWS_MODEL=models/kws uvicorn --app-dir scripts peer_service:app --port 8090
"""
from __future__ import annotations

import io
import os
from typing import Any

import soundfile
from fastapi import Body, FastAPI
from transformers import pipeline

import kws.model.modeling  # noqa: F401  # makes the architecture known to transformers

app = FastAPI()
spot = pipeline("audio-classification", model=os.environ["KWS_MODEL"], top_k=None)


@app.post("/predictions/kws")
def predict(body: bytes = Body(media_type="audio/wav")) -> dict[str, Any]:  # noqa: B008  # FastAPI's way
    """Label a recording; FastAPI runs this in one of its threads."""
    waveform, sample_rate = soundfile.read(io.BytesIO(body), dtype="float32")
    scores = spot({"array": waveform, "sampling_rate": sample_rate})
    return {"label": scores[0]["label"], "confidences": {score["label"]: score["score"] for score in scores}}
