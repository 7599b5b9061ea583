"""TorchServe handler: requests in, JSON out. The only file that deals with HTTP.

It travels in kws.mar beside the package `kws`, and needs numpy, soundfile, soxr and onnxruntime only.
"""
from __future__ import annotations

import base64
import json
import logging
import time
from collections import Counter, defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import unquote_to_bytes

import numpy as np

from kws.audio.decode import Limits
from kws.errors import KwsError
from kws.inference.decision import Prediction, as_record
from kws.inference.spotter import KeywordSpotter

if TYPE_CHECKING:
    from ts.context import Context

STATUS = {
    "no_audio": 400, "several_files": 400, "bad_json": 400, "bad_base64": 400, "bad_option": 400, "empty_audio": 400,
    "too_large": 413, "too_long": 413, "unsupported_audio": 415, "truncated_audio": 422, "bad_samples": 422,
    "lost_sound": 422,
}  # any other is a fault of the service: 500
_FORM_OVERHEAD = 2048  # bytes that a field of a form takes besides its value, at most

log = logging.getLogger(__name__)

Row = Mapping[str, Any]  # what TorchServe makes of a request: its body or form fields, and its query
Request = Tuple[bytes, float, Optional[int]]  # encoded audio, threshold, top_k
Outcome = Union[Prediction, KwsError]


class KwsHandler:
    """Answer batches of requests; what is wrong with one is its own answer and does not touch its neighbours."""

    def initialize(self, context: Context) -> None:
        """Load the model of the unpacked archive, as `handler` of model-config.yaml says.

        Raises:
            ModelError: if the archive holds no usable model.
        """
        settings = context.model_yaml_config["handler"]
        self._spotter = KeywordSpotter(context.system_properties["model_dir"], runtime=settings["runtime"],
                                       threads=settings["threads"], limits=Limits(**settings["limits"]))
        self._threshold = settings["threshold"]
        model = context.manifest["model"]
        self._model = {"name": model["modelName"], "version": model["modelVersion"]}
        self._spotter.classify([np.zeros(self._spotter.sample_rate, np.float32)])  # the first call is slow

    def handle(self, rows: Sequence[Row], context: Context) -> list[str]:
        """Answer the requests of a batch: JSON for each, in order; its status goes into the context."""
        began = time.perf_counter()
        requests = [self._read(row, context, index) for index, row in enumerate(rows)]
        outcomes = self._classify(requests)
        answers = []
        for index, (request, outcome) in enumerate(zip(requests, outcomes)):
            status = STATUS.get(outcome.code, 500) if isinstance(outcome, KwsError) else HTTPStatus.OK
            context.set_response_status(int(status), HTTPStatus(status).phrase, index)
            context.set_response_content_type(index, "application/json")
            answers.append(json.dumps(self._document(request, outcome)))
        _count(context, outcomes, time.perf_counter() - began)
        return answers

    def _read(self, row: Row, context: Context, index: int) -> Union[Request, KwsError]:
        try:
            _check_form(row, context, index)
            fields = _fields(row)
            threshold = _option(fields, "threshold", float, 0.0, 1.0)
            return (_audio(fields), self._threshold if threshold is None else threshold,
                    _option(fields, "top_k", int, 1, len(self._spotter.labels)))
        except KwsError as error:
            return error
        except Exception as error:  # what nobody foresaw is answered to the one who sent it
            return _internal_error(error)

    def _classify(self, requests: Sequence[Union[Request, KwsError]]) -> list[Outcome]:
        """Run the model once for all requests with the same threshold, which is nearly always all of them."""
        outcomes: list[Any] = list(requests)
        groups: dict[float, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            if not isinstance(request, KwsError):
                groups[request[1]].append(index)
        for threshold, indices in groups.items():
            for index, outcome in zip(indices, self._answers([outcomes[index][0] for index in indices], threshold)):
                outcomes[index] = outcome
        return outcomes

    def _answers(self, clips: Sequence[bytes], threshold: float) -> Sequence[Outcome]:
        """Label clips together; one by one where that fails, so that it fails for those alone that make it fail."""
        try:
            return self._spotter.classify(clips, threshold)
        except Exception as error:
            if len(clips) > 1:
                return [answer for clip in clips for answer in self._answers([clip], threshold)]
            return [_internal_error(error)]

    def _document(self, request: Union[Request, KwsError], outcome: Outcome) -> dict[str, Any]:
        if isinstance(request, KwsError) or isinstance(outcome, KwsError):
            return {"error": {"code": outcome.code, "message": str(outcome)}}  # type: ignore[union-attr]
        return {**as_record(outcome, request[2]), "model": self._model}


def _internal_error(error: Exception) -> KwsError:
    """Log an unexpected error; the client is told its class only."""
    log.error("a request failed", exc_info=error)
    return KwsError(f"the service failed on this request ({type(error).__name__}); its log says more",
                    "internal_error")


def _check_form(row: Row, context: Context, index: int) -> None:
    """Refuse a form with two fields of one name: TorchServe hands over the last of them, so only the length tells."""
    headers = {name.lower(): value for name, value in context.get_all_request_header(index).items()
               if isinstance(value, str)}
    length = headers.get("content-length", "")
    if not headers.get("content-type", "").lower().startswith("multipart/form-data") or not length.isdecimal():
        return
    if not all(isinstance(value, (bytes, bytearray, str)) for value in row.values()):
        return  # a part that TorchServe has parsed, as JSON: its length is not known
    held = sum(map(len, row.values()))
    if int(length) - held > _FORM_OVERHEAD * (len(row) + 1):
        names = ", ".join(sorted(map(str, row)))[:60]
        raise KwsError(f"a form of {int(length):,} bytes whose fields ({names}) hold {held:,}; expected one file, as "
                       "data. Are there several of one name?", "several_files")


def _fields(row: Row) -> Row:
    """Bring a body, a form and a JSON object to one shape: the audio is `data`, the options are beside it."""
    content = row.get("data", row.get("body"))
    if isinstance(content, (bytes, bytearray)) and content[:64].lstrip()[:1] == b"{":  # no audio begins like that
        try:
            content = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise KwsError(f"not JSON ({error})", "bad_json") from None
    return {**row, "data": None, **content} if isinstance(content, Mapping) else {**row, "data": content}


def _audio(fields: Row) -> bytes:
    """Return the encoded audio of a request; text is base64 of it."""
    content = fields["data"]
    if isinstance(content, (bytes, bytearray)) and content[:5] == b"data:":
        content = content.decode("latin-1")
    if isinstance(content, (bytes, bytearray)):
        return bytes(content)
    if content is None:
        raise KwsError("no audio; expected it as the body (curl -T), as the form field data (curl -F), or as JSON "
                       '{"data": "<base64>"}', "no_audio")
    if not isinstance(content, str):
        raise KwsError('found JSON of another shape; expected {"data": "<base64>"}', "bad_json")
    return _from_base64(content)


def _from_base64(text: str) -> bytes:
    """Decode base64 of either alphabet, with or without padding, alone or in a data URL (RFC 2397)."""
    if text[:5].lower() == "data:":
        kind, comma, text = text.partition(",")
        if not comma:
            raise KwsError("a data URL without a comma; expected data:audio/wav;base64,...", "bad_base64")
        if not kind.lower().endswith(";base64"):
            return unquote_to_bytes(text)
        text = unquote_to_bytes(text).decode("latin-1")
    text = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise KwsError(f"not base64 ({error})", "bad_base64") from None


def _option(fields: Row, name: str, convert: Callable[[Any], float], low: float, high: float) -> Any:
    """Read a number beside the audio, None where it is not given."""
    if name not in fields:
        return None
    found = fields[name]
    if isinstance(found, (bytes, bytearray)):
        found = found.decode("utf-8", "replace")
    try:
        value = convert(found)
        if not low <= value <= high:
            raise ValueError
        return value
    except (TypeError, ValueError, OverflowError):
        raise KwsError(f"{name}: found {str(found)[:40]!r}; expected {low:g} to {high:g}", "bad_option") from None


def _count(context: Context, outcomes: Sequence[Outcome], seconds: float) -> None:
    """Add a batch to the metrics that metrics.yaml defines; each line here costs TorchServe some work."""
    labels = Counter(outcome.label for outcome in outcomes if isinstance(outcome, Prediction))
    codes = Counter(outcome.code for outcome in outcomes if isinstance(outcome, KwsError))
    audio_seconds = sum(outcome.seconds for outcome in outcomes if isinstance(outcome, Prediction))
    _emit(context, "histogram", "kws_handler_seconds", seconds)
    _emit(context, "counter", "kws_batches_total", 1)
    _emit(context, "counter", "kws_clips_total", len(outcomes))
    if audio_seconds:
        _emit(context, "counter", "kws_audio_seconds_total", audio_seconds)
    for label, count in labels.items():
        _emit(context, "counter", "kws_labels_total", count, label)
    for code, count in codes.items():
        _emit(context, "counter", "kws_errors_total", count, code)


def _emit(context: Context, kind: str, name: str, value: float, *dimensions: str) -> None:
    from ts.metrics.metric_type_enum import MetricTypes

    context.metrics.get_metric(name, MetricTypes(kind)).add_or_update(value, [context.model_name, *dimensions])
