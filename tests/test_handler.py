"""The handler as TorchServe loads and calls it: from the unpacked archive, with TorchServe's context and metrics."""
import ast
import base64
import gzip
import io
import json
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from ts.context import RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.model_loader import TsModelLoader

from kws import KeywordSpotter
from kws.model.folder import SHIPPED
from kws.model.loading import load_torch_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(model_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(model_store / "kws.mar") as archive:
        archive.extractall(folder)
    return folder


class Service:
    """What TorchServe's worker makes of a handler."""

    def __init__(self, folder):
        metrics = MetricsCacheYamlImpl(str(ROOT / "torchserve/metrics.yaml"))
        metrics.initialize_cache()
        metrics.model_name = "kws"
        sys.path.insert(0, str(folder))
        try:
            service = TsModelLoader().load("kws", str(folder), "handler.py", None, 8, None, True, metrics)
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop("handler")
        self.context, self.handle = service.context, service._entry_point

    def __call__(self, *rows):
        """Rows -> (status, document) each."""
        self.context.request_processor = [RequestProcessor({}) for _ in rows]
        answers = self.handle(list(rows), self.context)
        assert len(answers) == len(rows)
        assert {self.context.get_response_content_type(i) for i in range(len(rows))} == {"application/json"}
        return [(self.context.get_response_status(i)[0], json.loads(answer)) for i, answer in enumerate(answers)]


@pytest.fixture(scope="module")
def service(unpacked):
    return Service(unpacked)


@pytest.fixture(scope="module")
def wavs(tone, noise, wav_bytes):
    return [wav_bytes(tone(200.0 * number, 0.7 + 0.2 * number) + noise(number, 0.7 + 0.2 * number))
            for number in range(1, 5)]


def encoded(content):
    return base64.b64encode(content).decode()


def test_answers_are_those_of_the_spotter(service, exported, wavs):
    for (status, document), expected in zip(service(*({"body": bytearray(wav)} for wav in wavs)),
                                            KeywordSpotter(exported).classify(wavs)):
        assert status == 200
        assert document.pop("model") == {"name": "kws", "version": "1.2"}
        assert document["confidences"] == pytest.approx(expected.confidences, abs=1e-6)
        assert (document["label"], document["start_seconds"]) == (expected.label, expected.start_seconds)
        assert document["confidence"] == document["confidences"][document["label"]]


def test_a_form_may_have_a_part_of_json(service, wavs):
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(2 * len(wavs[0]))}
    service.context.request_processor = [RequestProcessor(headers)]
    answer, = service.handle([{"data": {"data": encoded(wavs[0])}}], service.context)
    assert "label" in json.loads(answer)
    answer, = service.handle([{"data": bytearray(wavs[0])}], service.context)  # one of two files
    assert json.loads(answer)["error"]["code"] == "several_files"


def test_there_are_many_ways_to_send_a_clip(service, wavs):
    base = encoded(wavs[0])
    wrapped = "\r\n".join(base[start:start + 76] for start in range(0, len(base), 76))
    rows = [{"body": bytearray(wavs[0])}, {"data": bytearray(wavs[0])}, {"body": {"data": base}},
            {"body": {"data": wrapped}}, {"body": bytearray(json.dumps({"data": base}).encode())},
            {"body": bytearray(b"\n " + json.dumps({"data": base}).encode())}, {"data": base},
            {"body": base}, {"data": bytearray(json.dumps({"data": base}).encode())}]
    answers = service(*rows)
    assert [status for status, _ in answers] == [200] * len(rows)
    assert all(document["confidences"] == pytest.approx(answers[0][1]["confidences"], abs=1e-6)
               for _, document in answers)


@pytest.mark.parametrize("file_format, subtype", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_other_formats_and_rates_are_read(service, tone, wav_bytes, file_format, subtype):
    stereo = np.stack([tone(300.0, sample_rate=44100)] * 2, axis=1)
    (status, document), = service({"body": bytearray(wav_bytes(stereo, 44100, subtype, file_format))})
    assert status == 200 and document["label"]


@pytest.mark.parametrize("found", [b"2", bytearray(b"2"), "2", 2])
def test_top_k_keeps_the_greatest_confidences(service, wavs, found):
    (_, document), (_, whole) = service({"body": bytearray(wavs[0]), "top_k": found}, {"body": bytearray(wavs[0])})
    assert list(document["confidences"].values()) == sorted(whole["confidences"].values(), reverse=True)[:2]


def test_options_may_stand_in_the_json_object(service, wavs):
    (status, document), = service({"body": {"data": encoded(wavs[0]), "top_k": 1, "threshold": 0.5}})
    assert status == 200 and len(document["confidences"]) == 1


def test_requests_of_a_batch_have_thresholds_of_their_own(service, wavs):
    rows = [{"body": bytearray(wav)} for wav in wavs for _ in range(2)]
    for row in rows[::2]:
        row["threshold"] = bytearray(b"1.0")
    answers = [document for _, document in service(*rows)]
    keywords = ("yes", "no")
    assert all(document["label"] not in keywords for document in answers[::2])
    assert any(document["label"] in keywords for document in answers[1::2]), "the test needs a keyword"
    assert [document["confidences"] for document in answers[::2]] == [
        pytest.approx(document["confidences"], abs=1e-6) for document in answers[1::2]]


@pytest.mark.parametrize("name, found", [
    ("top_k", "0"), ("top_k", "5"), ("top_k", "x"), ("top_k", ""), ("top_k", "1.5"), ("top_k", None),
    ("top_k", [1]), ("top_k", "9" * 5000), ("top_k", bytearray(b"\xff")), ("top_k", 1e999), ("threshold", "-0.1"),
    ("threshold", "1.01"), ("threshold", "nan"), ("threshold", "inf"), ("threshold", {}),
    ("threshold", bytearray(b"0,5")),
])
def test_bad_options_are_refused(service, wavs, name, found):
    (status, document), = service({"body": bytearray(wavs[0]), name: found})
    assert (status, document["error"]["code"]) == (400, "bad_option")
    assert name in document["error"]["message"] and len(document["error"]["message"]) < 120


def wav_of(samples, file_format="WAV", subtype=None, rate=16000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def test_data_urls_and_either_base64_alphabet_are_read(service, wavs, wav_bytes, noise):
    wav = wav_bytes(noise(3, 0.7101))
    safe = base64.urlsafe_b64encode(wav).decode()
    assert {"-", "_", "="} <= set(safe), "the test needs them"
    url = f"data:audio/wav;base64,{encoded(wav)}"
    rows = [{"body": {"data": text}} for text in (safe, safe.rstrip("="), encoded(wav).rstrip("="), url,
                                                  url.replace("+", "%2B"), f"data:audio/wav;base64,{safe}")]
    rows += [{"body": bytearray(url.encode())}, {"body": url}, {"data": bytearray(url.encode())}]
    (_, expected), *answers = service({"body": bytearray(wav)}, *rows)
    assert [status for status, _ in answers] == [200] * len(rows)
    assert all(document["confidences"] == pytest.approx(expected["confidences"], abs=1e-6) for _, document in answers)


def test_gzip_is_named(service, wavs):
    (status, document), = service({"body": bytearray(gzip.compress(wavs[0]))})
    assert (status, document["error"]["code"]) == (415, "unsupported_audio") and "gzip" in document["error"]["message"]


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def disagreeing(wav):
    """Files whose chunks one parser reads and another refuses, as (bytes, whether their samples are plain to see)."""
    form, content = wav[12:36], wav[36:]

    def riff(*parts):
        return b"RIFF" + struct.pack("<I", 4 + sum(map(len, parts))) + b"WAVE" + b"".join(parts)
    return [(riff(form, chunk(b"PEAK", b"\xff" * 3), content), True),
            (riff(form, chunk(b"\xff\xfe\x01\x02", b"abcd"), content), True),
            (riff(form, chunk(b"fact", b""), content), True), (riff(form, chunk(b"cue ", b"\xff" * 9), content), True),
            (riff(chunk(b"fmt ", form[8:20]), content), False), (riff(content), False)]


def test_files_on_which_parsers_disagree_touch_no_neighbour(service, wavs):
    odd = disagreeing(wavs[0])
    answers = service(*({"body": bytearray(content)} for bad, _ in odd for content in (bad, wavs[1])))
    assert {status for status, _ in answers[1::2]} == {200}
    assert [status == 200 for status, _ in answers[::2]] == [readable for _, readable in odd]
    (_, expected), = service({"body": bytearray(wavs[0])})
    assert answers[0][1]["confidences"] == pytest.approx(expected["confidences"], abs=1e-6)


def test_what_nobody_foresaw_is_the_answer_of_the_one_who_sent_it(service, wavs, monkeypatch, caplog):
    spotter = service.handle.__self__._spotter
    classify = spotter.classify

    def fragile(clips, threshold):
        if any(b"unforeseen" in clip for clip in clips):
            raise ZeroDivisionError("secret")
        return classify(clips, threshold)
    monkeypatch.setattr(spotter, "classify", fragile)
    answers = service(*({"body": bytearray(content)} for content in (wavs[0], b"unforeseen", wavs[1])))
    assert [status for status, _ in answers] == [200, 500, 200]
    assert answers[1][1]["error"]["code"] == "internal_error" and "secret" not in str(answers[1])
    assert "secret" in caplog.text


def test_seconds_of_audio_are_those_decoded(service, wavs, caplog):
    picture = b"ID3\4\0\0\0\x10\0\0" + bytes(2**18)  # a library took it for 16 s of sound
    mp3 = picture + wav_of(np.zeros(16000), "MP3")
    with caplog.at_level(logging.INFO):
        (status, _), = service({"body": bytearray(mp3)})
    seconds, = re.findall(r"kws_audio_seconds_total\.\S+?:(\S+?)\|", caplog.text)
    assert status == 200 and float(seconds) == pytest.approx(1.0, abs=0.1)


def bad_rows(wav):
    nan = np.full(16000, np.nan, dtype=np.float32)
    return {
        "no body": ({}, 400, "no_audio"),
        "null": ({"body": None}, 400, "no_audio"),
        "another field": ({"file": bytearray(wav)}, 400, "no_audio"),
        "empty body": ({"body": bytearray()}, 400, "empty_audio"),
        "empty base64": ({"body": {"data": ""}}, 400, "empty_audio"),
        "no samples": ({"body": bytearray(wav_of(np.zeros(0, dtype=np.float32)))}, 400, "empty_audio"),
        "not JSON": ({"body": bytearray(b'{"data": ')}, 400, "bad_json"),
        "deep JSON": ({"body": bytearray(b'{"a":' * 200_000)}, 400, "bad_json"),
        "JSON, not UTF-8": ({"body": bytearray(b'{"data": "\xff"}')}, 400, "bad_json"),
        "JSON without data": ({"body": {"audio": encoded(wav)}}, 400, "no_audio"),
        "a list": ({"body": [1]}, 400, "bad_json"),
        "a number": ({"body": {"data": 7}}, 400, "bad_json"),
        "not base64": ({"body": {"data": "!!!!"}}, 400, "bad_base64"),
        "half base64": ({"body": {"data": "AAAAA"}}, 400, "bad_base64"),
        "not ASCII": ({"body": {"data": "äöü"}}, 400, "bad_base64"),
        "a path": ({"body": {"data": "/etc/hostname"}}, 400, "bad_base64"),
        "a path as bytes": ({"body": bytearray(b"/etc/hostname")}, 415, "unsupported_audio"),
        "text": ({"body": bytearray(b"hello")}, 415, "unsupported_audio"),
        "a picture": ({"body": bytearray(b"\x89PNG\r\n\x1a\n" + bytes(100))}, 415, "unsupported_audio"),
        "another audio format": ({"body": bytearray(wav_of(np.zeros(100), "AIFF"))}, 415, "unsupported_audio"),
        "cut off": ({"body": bytearray(wav[:-100])}, 422, "truncated_audio"),
        "NaN": ({"body": bytearray(wav_of(nan, subtype="FLOAT"))}, 422, "bad_samples"),
        "61 s": ({"body": bytearray(wav_of(np.zeros(61 * 16000), "FLAC"))}, 413, "too_long"),
        "many channels": ({"body": bytearray(wav_of(np.zeros((10, 9))))}, 415, "unsupported_audio"),
        "a bomb": ({"body": bytearray(wav_of(np.zeros((8 * 192000, 8)), "FLAC", rate=192000))}, 413, "too_large"),
    }


def test_a_bad_request_is_its_own_answer_and_touches_no_neighbour(service, wavs):
    cases = bad_rows(wavs[0])
    rows = [row for bad, _, _ in cases.values() for row in ({"body": bytearray(wavs[0])}, bad)]
    answers = service(*rows)
    assert {status for status, _ in answers[::2]} == {200}
    for (name, (_, expected_status, code)), (status, document) in zip(cases.items(), answers[1::2]):
        assert (status, document["error"]["code"]) == (expected_status, code), name
        assert set(document) == {"error"} and 0 < len(document["error"]["message"]) < 200


def test_every_fault_of_a_clip_has_a_status(service):
    source = (ROOT / "kws/audio/decode.py").read_text()
    codes = {argument.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
             and getattr(node.func, "id", "") == "AudioError" for argument in node.args[1:]} | {"unsupported_audio"}
    assert len(codes) > 5
    statuses = service.handle.__func__.__globals__["STATUS"]
    assert codes - {"not_found", "unreadable"} <= set(statuses)  # those two are of paths; a request has none
    assert set(statuses.values()) == {400, 413, 415, 422}


def test_no_bytes_whatever_raise(service, wavs):
    generator = np.random.default_rng(0)
    rows = []
    for number in range(400):
        wav = bytearray(wavs[number % len(wavs)])
        for position in generator.integers(0, 60 if number % 2 else len(wav), size=generator.integers(1, 9)):
            wav[position] = generator.integers(256)
        rows.append({"body": wav[:generator.integers(1, len(wav) + 1)] if number % 3 == 0 else wav})
    for start in range(0, len(rows), 8):
        assert {status for status, _ in service(*rows[start:start + 8])} <= {200, 400, 413, 415, 422}


def test_metrics_say_what_happened(service, wavs, caplog):
    with caplog.at_level(logging.INFO):
        answers = service(*({"body": bytearray(wav)} for wav in wavs), {"body": bytearray()}, {"body": bytearray(b"x")})
    lines = dict(re.findall(r"\[METRICS\](\S+?)\.\S+?:(\S+?)\|#ModelName:kws(?=\|)", caplog.text))
    assert (lines["kws_batches_total"], lines["kws_clips_total"]) == ("1", "6")
    assert float(lines["kws_audio_seconds_total"]) == pytest.approx(0.9 + 1.1 + 1.3 + 1.5)
    assert 0 < float(lines["kws_handler_seconds"]) < 10
    by_label = re.findall(r"kws_labels_total\.\S+?:(\d+)\|#ModelName:kws,Label:(\w+)", caplog.text)
    assert sorted(label for count, label in by_label for _ in range(int(count))) == sorted(
        document["label"] for _, document in answers[:4])
    assert set(re.findall(r"kws_errors_total\.\S+?:1\|#ModelName:kws,Code:(\w+)", caplog.text)) == {
        "empty_audio", "unsupported_audio"}


def test_pytorch_may_run_the_model_of_the_archive(unpacked, service, wavs, tmp_path):
    shutil.copytree(unpacked, tmp_path / "torch")
    path = tmp_path / "torch/model-config.yaml"
    config = yaml.safe_load(path.read_text())
    config["handler"]["runtime"] = "torch"
    path.write_text(yaml.safe_dump(config))
    rows = [{"body": bytearray(wav)} for wav in wavs]
    for (_, ours), (_, theirs) in zip(service(*rows), Service(tmp_path / "torch")(*rows)):
        assert ours["confidences"] == pytest.approx(theirs["confidences"], abs=1e-4)


@pytest.fixture(scope="module")
def searching(unpacked, tmp_path_factory):
    """The service around the model that ships, which hears running sound too."""
    folder = shutil.copytree(unpacked, tmp_path_factory.mktemp("searching") / "model")
    for name in ("model.onnx", "stream.onnx", "config.json"):
        shutil.copy(SHIPPED / name, folder)
    return Service(folder)


def test_a_long_recording_is_answered_with_every_keyword_in_it(searching):
    sample = (ROOT / "docs/samples/five-words.flac").read_bytes()
    clip = (ROOT / "docs/samples/yes.flac").read_bytes()
    expected = KeywordSpotter(SHIPPED).stream([soundfile.read(io.BytesIO(sample), dtype="float32")[0]])
    (_, long), (_, short), (_, strict) = searching(
        {"body": bytearray(sample)}, {"body": bytearray(clip)}, {"data": bytearray(sample), "threshold": b"1"})
    assert long["detections"] == [found.as_record() for found in expected] != []
    surest = max(long["detections"], key=lambda found: found["confidence"])
    assert (long["label"], long["confidence"], long["start_seconds"]) == (
        surest["word"], surest["confidence"], surest["start_s"])
    assert short["label"] == "yes" and "detections" not in short
    assert strict["label"] == "_unknown_" and strict["detections"] == []


@pytest.mark.parametrize("kind", ["WAV", "Opus"])
def test_long_recordings_do_not_make_a_batch_late(searching, noise, wav_bytes, kind):
    """The longest that is accepted, as many as a batch may hold: well within the time a worker is given."""
    config = yaml.safe_load((ROOT / "torchserve/model-config.yaml").read_text())
    seconds = config["handler"]["limits"]["max_seconds"] - 0.1
    longest = wav_bytes(noise(0, seconds))
    if kind == "Opus":  # of all formats it takes longest to decode
        encoded = io.BytesIO()
        with soundfile.SoundFile(encoded, "w", 48000, 2, "OPUS", format="OGG") as file:
            for second in range(int(seconds)):  # libsndfile does not survive all of it at once
                file.write(np.stack([noise(second, 1.0, 48000), noise(second + 100, 1.0, 48000)], axis=1))
        longest = encoded.getvalue()
    began = time.perf_counter()
    answers = searching(*[{"body": bytearray(longest)}] * 4)
    assert {status for status, _ in answers} == {200}
    assert (time.perf_counter() - began) * config["batchSize"] / 4 < config["responseTimeout"]


def test_the_archive_is_whole(unpacked, exported):
    """Without the project: only what was packed, and no library that the service's image lacks."""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import handler, kws; "
            "from kws.inference import runtime; print(kws.__file__); runtime.load_runtime(runtime.Path(sys.argv[1])); "
            "print([name for name in ('torch', 'transformers', 'pandas', 'yaml', 'tqdm') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-I", "-c", code, str(unpacked)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(unpacked / "kws/__init__.py"), "[]"]
    assert (unpacked / "model.pt").read_bytes() == (exported / "model.pt").read_bytes()


def test_without_a_trained_model_the_shipped_one_is_packed(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "scripts/archive.py"), "--output", "store"], capture_output=True,
                          text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "models/kws: no such folder" in done.stderr
    with zipfile.ZipFile(tmp_path / "store/kws.mar") as packed:
        packed.extractall(tmp_path / "unpacked")
    for name in ("model.onnx", "stream.onnx", "model.safetensors", "config.json"):
        assert (tmp_path / "unpacked" / name).read_bytes() == (SHIPPED / name).read_bytes()
    state = torch.load(tmp_path / "unpacked/model.pt", weights_only=True)
    expected = load_torch_model(SHIPPED).state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_model_that_was_not_exported_is_not_packed(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    (tmp_path / "model/model.onnx").unlink()
    done = subprocess.run([sys.executable, str(ROOT / "scripts/archive.py"), "model", "--output", "store"],
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "model.onnx" in done.stderr and "kws export" in done.stderr
    assert not (tmp_path / "store").exists()


def test_the_archive_holds_the_package_without_what_ships_in_it(unpacked):
    package = ROOT / "kws"
    expected = {path.relative_to(package) for path in package.rglob("*.py") if "pretrained" not in path.parts}
    assert {path.relative_to(unpacked / "kws") for path in (unpacked / "kws").rglob("*.py")} == expected
    assert not (unpacked / "kws/pretrained").exists()
