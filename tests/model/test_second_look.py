"""The larger network of a model folder: in 8 bits, with its architecture."""
from __future__ import annotations

from pathlib import Path

import pytest

from kws.config.architecture import load_architecture
from kws.errors import ModelError
from kws.model.folder import SECOND_FILE, SHIPPED
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.model.second_look import larger, load_second_look, save_second_look

ARCHITECTURES = Path(__file__).resolve().parents[2] / "configs/arch"


def architecture(name: str) -> dict[str, object]:
    return load_architecture(ARCHITECTURES / f"{name}.yaml").as_json()


@pytest.fixture(scope="module")
def model() -> KwsForAudioClassification:
    return load_torch_model(SHIPPED)


def test_what_is_saved_is_loaded_to_within_half_a_step_of_8_bits(model: KwsForAudioClassification, tmp_path: Path):
    second = larger(model, architecture("base")).eval()
    save_second_look(tmp_path, second)
    found = load_second_look(tmp_path, model)
    assert found is not None and not found.training
    for name, weights in second.network.state_dict().items():
        rows = weights.float().reshape(len(weights) if weights.ndim > 1 else weights.numel(), -1)
        error = (found.state_dict()[name].float().reshape(rows.shape) - rows).abs().amax(dim=1)
        assert (error <= 0.501 * rows.abs().amax(dim=1) / 127).all() if weights.ndim > 1 else not error.any(), name
    num_weights = sum(parameter.numel() for parameter in second.network.parameters())
    assert (tmp_path / SECOND_FILE).stat().st_size < 1.4 * num_weights
    once = (tmp_path / SECOND_FILE).read_bytes()
    second.network.load_state_dict(found.state_dict())
    save_second_look(tmp_path, second)
    assert (tmp_path / SECOND_FILE).read_bytes() == once  # what fits into 8 bits stays


def test_a_folder_without_one_has_none(model: KwsForAudioClassification, tmp_path: Path):
    assert load_second_look(tmp_path, model) is None


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_damaged_file_is_named(model: KwsForAudioClassification, tmp_path: Path, content: bytes | None):
    whole = (SHIPPED / SECOND_FILE).read_bytes()
    (tmp_path / SECOND_FILE).write_bytes(whole[:len(whole) // 2] if content is None else content)
    with pytest.raises(ModelError, match=f"{tmp_path / SECOND_FILE}: cannot be loaded"):
        load_second_look(tmp_path, model)


def test_one_of_other_labels_is_named(model: KwsForAudioClassification, tmp_path: Path):
    save_second_look(tmp_path, larger(model, architecture("base")))
    other = larger(model, architecture("small"))
    other.config.id2label = {0: "lights", 1: "_unknown_", 2: "_silence_"}
    with pytest.raises(ModelError, match=f"{tmp_path / SECOND_FILE}: cannot be loaded"):
        load_second_look(tmp_path, other)


def test_a_network_that_cannot_hear_running_sound_is_refused(model: KwsForAudioClassification):
    with pytest.raises(ModelError, match="only folded-mel"):
        larger(model, architecture("bcresnet-1"))


def test_a_network_that_needs_what_led_to_a_moment_takes_no_second_look(model: KwsForAudioClassification):
    with pytest.raises(ModelError, match="without embedding"):
        larger(model, architecture("speech"))
