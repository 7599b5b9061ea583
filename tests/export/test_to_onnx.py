import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from kws.__main__ import main
from kws.audio.decode import decode
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK
from kws.errors import ModelError
from kws.export import to_onnx as module
from kws.export.quantize import quantize
from kws.export.to_onnx import export
from kws.inference.runtime import OnnxRuntime
from kws.model.features import FoldedLogMel
from kws.model.folder import BODY, ONNX_FILE, SHIPPED, STREAM_FILE
from kws.model.loading import load_torch_model
from kws.model.window import pad_or_crop

SAMPLES = Path(__file__).resolve().parents[2] / "docs/samples"


@pytest.fixture
def folder(exported, tmp_path):
    """An exported model folder to change."""
    return Path(shutil.copytree(exported, tmp_path / "kws"))


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).integers(-32768, 32767, (40, 16000)).astype(np.int16)


def test_an_export_answers_as_pytorch_and_holds_what_a_runtime_needs(folder, clips):
    result = export(folder, clips)
    assert result.path == folder / "model.onnx" and result.difference < 1e-4 and result.clips == 52
    runtime, model = OnnxRuntime(result.path), load_torch_model(folder)
    batch = clips.astype(np.float32) / 32768
    with torch.inference_mode():
        np.testing.assert_allclose(runtime.logits(batch), model(torch.from_numpy(batch)).logits.numpy(), atol=1e-4)
    state = torch.load(folder / "model.pt", weights_only=True)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_another_export_writes_the_same_bytes(folder, clips):
    files = [folder / "model.onnx", folder / "model.pt"]
    before = [path.read_bytes() for path in files]  # perhaps by another process
    export(folder, clips)
    assert [path.read_bytes() for path in files] == before
    assert "features.cosines" not in {item.name for item in onnx.load(files[0]).graph.initializer}  # it is compact


def test_the_file_is_for_older_runtimes_and_names_no_file_of_this_machine(exported):
    proto = onnx.load(exported / "model.onnx")
    assert proto.ir_version <= 10 and proto.opset_import[0].version <= 20
    content = (exported / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in content and b"site-packages" not in content
    metadata = {item.key: item.value for item in proto.metadata_props}
    assert json.loads(metadata["labels"]) == ["yes", "no", "_unknown_", "_silence_"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any number of clips


def test_the_file_is_smaller_than_an_unfolded_transform(exported):
    assert (exported / "model.onnx").stat().st_size < 480 * 2 * 255 * 4  # window; cosines and sines of the heard bins


def test_nothing_is_written_where_the_answers_differ(folder, monkeypatch):
    class Wrong(FoldedLogMel):
        def forward(self, waveforms):
            return super().forward(0.5 * waveforms)

    monkeypatch.setattr(module, "FoldedLogMel", Wrong)
    for name in ("model.onnx", "model.pt"):
        (folder / name).unlink()
    before = sorted(folder.iterdir())
    with pytest.raises(ModelError, match="logits differ"):
        export(folder, np.empty((0, 16000), dtype=np.int16))
    assert sorted(folder.iterdir()) == before


def shift(name):
    """A fault of a file: something is added to a constant of its graph."""
    def damage(proto):
        constant, = (item for item in proto.graph.initializer if item.name == name)
        constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) + np.float32(0.01), name))
    return damage


def forget(proto):
    """A fault of a file: half of what it remembers is lost."""
    last, = (node for node in proto.graph.node if "next_state" in node.output)
    last.output[0] = "whole"
    proto.graph.node.extend([
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32(0.5))),
        helper.make_node("Mul", ["whole", "half"], ["next_state"])])


@pytest.mark.parametrize("damage", [
    None, shift("first.network.head.1.bias"), shift("second.network.head.1.bias"), forget],
    ids=["none", "first network", "second look", "memory"])
def test_running_sound_is_compared_too(tmp_path, monkeypatch, damage):
    folder, proto = shutil.copytree(SHIPPED, tmp_path / "kws"), onnx.load(SHIPPED / STREAM_FILE)
    if damage is not None:
        damage(proto)
    monkeypatch.setattr(module, "write_onnx", lambda model, path: shutil.copy(SHIPPED / ONNX_FILE, path))
    monkeypatch.setattr(module, "write_stream_onnx", lambda model, path, second: onnx.save(proto, path))
    (folder / STREAM_FILE).write_bytes(b"before")
    words = np.stack([pad_or_crop(decode(SAMPLES / f"{word}.flac", 16000), 16000) for word in ("yes", "stop")])
    if damage is None:
        export(folder, (words * 32767).astype(np.int16))
        assert (folder / STREAM_FILE).read_bytes() == proto.SerializeToString()
    else:
        with pytest.raises(ModelError, match="stream.onnx: the exported model's logits differ"):
            export(folder, (words * 32767).astype(np.int16))
        assert (folder / STREAM_FILE).read_bytes() == b"before"


def test_clips_of_another_length_are_refused(folder):
    with pytest.raises(ModelError, match="listens to 16,000 samples"):
        export(folder, np.zeros((2, 8000), dtype=np.int16))


def test_an_8_bit_model_answers_nearly_as_before(folder, clips, monkeypatch):
    monkeypatch.setattr("kws.export.quantize._MAX_LOSS", 1.0)  # an untrained model decides by hairs
    waveforms = clips.astype(np.float32) / 32768 * 10.0 ** -np.arange(40)[:, None].clip(max=5)
    waveforms = waveforms.astype(np.float32)
    expected = OnnxRuntime(folder / "model.onnx").logits(waveforms)
    heard = np.round(waveforms * 32768).astype(np.int16)
    before, after = quantize(folder, heard, heard, expected.argmax(axis=1))
    assert before.accuracy > 0.9 and after.path == folder / "model.int8.onnx"
    found = OnnxRuntime(after.path).logits(waveforms)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.25 * np.ptp(expected)
    nodes = list(onnx.load(after.path).graph.node)
    assert "QuantizeLinear" in {node.op_type for node in nodes}
    makers, front_end = {name: node for node in nodes for name in node.output}, set()
    waiting = [name for node in nodes if node.op_type == "Log" for name in node.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            front_end.add(node.op_type)
            waiting.extend(node.input)
    assert {"Log", "MatMul", "Pad"} <= front_end
    assert not front_end & {"QuantizeLinear", "DequantizeLinear"}


def test_8_bit_ranges_are_measured_on_training_clips_and_judged_on_others(folder, clips, monkeypatch):
    monkeypatch.setattr("kws.export.quantize._MAX_LOSS", 1.0)
    quiet = (clips // 1000).astype(np.int16)
    quantize(folder, quiet, clips[:8], np.zeros(8, dtype=np.int64))
    found = (folder / "model.int8.onnx").read_bytes()
    quantize(folder, quiet, clips[8:16], np.zeros(8, dtype=np.int64))
    assert (folder / "model.int8.onnx").read_bytes() == found  # whatever it is judged on
    quantize(folder, clips, clips[:8], np.zeros(8, dtype=np.int64))
    assert (folder / "model.int8.onnx").read_bytes() != found


def test_an_8_bit_model_that_loses_is_not_kept(folder, clips, monkeypatch):
    monkeypatch.setattr("kws.export.quantize.write_int8",
                        lambda source, destination, clips: shutil.copy(source, destination))
    monkeypatch.setattr("kws.export.quantize._MAX_LOSS", -1.0)  # nothing can be a whole point better
    with pytest.raises(ModelError, match="Not written"):
        quantize(folder, clips, clips, np.zeros(len(clips), dtype=np.int64))
    assert not (folder / "model.int8.onnx").exists()


def test_the_command_works_without_a_store(folder, tmp_path, monkeypatch, capfd):
    config = Path("configs/kws.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(folder), "--config", str(config)]) == EXIT_OK
    out, err = capfd.readouterr()
    assert "generated clips only" in err and "model.onnx" in out
    assert len(err.splitlines()) == 1


def test_the_command_needs_no_configuration_but_one_that_is_named(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(folder)]) == EXIT_OK
    out, err = capfd.readouterr()
    assert err.startswith("configs/kws.yaml: no such file; ") and err.count("\n") == 1 and "model.onnx" in out
    for named in (["--config", "configs/kws.yaml"], ["--set", "seed=1"], ["--int8"]):
        assert main(["export", str(folder), *named]) == EXIT_BAD_INPUT
        assert capfd.readouterr().err.startswith("error: configs/kws.yaml: no such file")


@pytest.mark.parametrize("keywords, expected", [
    ('data.keywords=["yes", "bed"]', "prepared: clips labelled yes, bed, _unknown_, _silence_; expected the labels"),
    ('data.keywords=["yes", "no"]', "needs clips in training, to calibrate on, and in validation")])
def test_an_8_bit_model_is_not_judged_by_clips_that_cannot_tell(folder, corpus, tmp_path, no_pictures, monkeypatch,
                                                                capfd, keywords, expected):
    config, root = BODY / "own.yaml", corpus()  # without clips for validation
    monkeypatch.chdir(tmp_path)
    sets = [word for value in (f"data.root={root}", "data.prepared=prepared", keywords) for word in ("--set", value)]
    assert main(["prepare", str(config), *sets]) == EXIT_OK
    capfd.readouterr()
    assert main(["export", str(folder), "--int8", "--config", str(config), *sets]) == EXIT_BAD_INPUT
    error = capfd.readouterr().err
    assert expected in error and error.count("\n") == 1 and not (folder / "model.int8.onnx").exists()
