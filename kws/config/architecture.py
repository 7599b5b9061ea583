"""Architecture files: which network, of what sizes."""
from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from kws.config.schema import Count, Dropout, Odd, Pair, Section, validate
from kws.config.yaml_files import read_yaml


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


class FoldedMel(Architecture):
    """Our network."""

    network: Literal["folded-mel"]
    stem: Stem
    spectral: tuple[SpectralBlock, ...]
    temporal: Temporal
    dropout: Dropout


class BroadcastResidual(Architecture):
    """The published baseline."""

    network: Literal["broadcast-residual"]
    stem: Stem
    stages: tuple[Stage, ...] = Field(min_length=1)
    head: Head
    sub_bands: Count
    dropout: Dropout


_ARCHITECTURES: dict[str, type[Architecture]] = {"folded-mel": FoldedMel, "broadcast-residual": BroadcastResidual}


def load_architecture(path: Path) -> Architecture:
    """Read an architecture file; raises ConfigError as `kws.config.sections.load_config` does."""
    document = read_yaml(path)
    named = validate(Architecture, {key: document[key] for key in ("network",) if key in document}, str(path))
    return validate(_ARCHITECTURES[named.network], document, str(path))
