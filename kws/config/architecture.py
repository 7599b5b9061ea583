"""Architecture files: which network, of what sizes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

from pydantic import Field

from kws.config.schema import Count, Dropout, Odd, Pair, Section, validate
from kws.config.yaml_files import read_yaml
from kws.errors import ConfigError
from kws.model.folder import CONFIG_FILE

if TYPE_CHECKING:
    from kws.config.sections import Config


class Stem(Section):
    """The first convolution; kernel and stride as (mel bins, frames)."""

    channels: Count
    kernel: tuple[Odd, Odd]
    stride: Pair


class SpectralBlock(Section):
    """A 2-D block; stride as (mel bins, frames)."""

    channels: Count
    stride: Pair


class Temporal(Section):
    """The blocks over time; the kernel in frames."""

    channels: Count
    blocks: Count
    kernel: Odd


class Stage(Section):
    """A run of broadcast-residual blocks; kernel and dilation in frames."""

    channels: Count
    blocks: Count
    stride: Pair
    kernel: Odd
    dilation: Count


class Head(Section):
    """The classifier of the broadcast-residual network."""

    channels: Count
    kernel: Count


class Architecture(Section):
    """An architecture file: which network it describes, then that one's own settings."""

    network: Literal["folded-mel", "broadcast-residual"]

    def as_json(self) -> dict[str, Any]:
        """Give what `kws.model.network.build_network` takes, without what is left at its default."""
        return self.model_dump(mode="json", exclude_none=True)


class FoldedMel(Architecture):
    """Our network."""

    network: Literal["folded-mel"]
    stem: Stem
    spectral: tuple[SpectralBlock, ...]
    temporal: Temporal
    dropout: Dropout
    embedding: Optional[Count] = None


class BroadcastResidual(Architecture):
    """The published baseline."""

    network: Literal["broadcast-residual"]
    stem: Stem
    stages: tuple[Stage, ...] = Field(min_length=1)
    head: Head
    sub_bands: Count
    dropout: Dropout


_ARCHITECTURES: dict[str, type[Architecture]] = {"folded-mel": FoldedMel, "broadcast-residual": BroadcastResidual}


def configured_architecture(config: Config) -> Architecture:
    """Read what a training trains: the architecture of the model that it starts from, else the file it names."""
    if config.training.start_from is None:
        return load_architecture(config.architecture)
    path = config.training.start_from / CONFIG_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))["architecture"]
        return validate(_ARCHITECTURES[document["network"]], document, str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("training.start_from", [f"{path}: found {error}; expected a model folder"]) from None


def load_architecture(path: Path) -> Architecture:
    """Read an architecture file; raises ConfigError as `kws.config.sections.load_config` does."""
    document = read_yaml(path)
    named = validate(Architecture, {key: document[key] for key in ("network",) if key in document}, str(path))
    return validate(_ARCHITECTURES[named.network], document, str(path))
