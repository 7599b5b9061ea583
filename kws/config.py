"""Configuration: YAML file -> frozen, typed sections -> plain keyword arguments for the components.

Each section checks what it owns; `Config` checks across sections. Every problem of a file is reported at once.
"""
from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Sequence, TypeVar

from pydantic import (AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr,
                      ValidationError, model_validator)

from kws.documents import override_key, read_yaml
from kws.errors import ConfigError
from kws.labels import SILENCE, UNKNOWN

_YAML_BOOLEAN = "YAML reads an unquoted true/false as a boolean: quote it"


def _refuse_even(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("expected an odd number, so that there is a middle")
    return value


def _refuse_boolean(value: Any) -> Any:
    """Floats stay lax, so that `1e-3` (a string to YAML) works; but `true` is not 1.0."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Float = Annotated[float, BeforeValidator(_refuse_boolean), Field(allow_inf_nan=False)]
Probability = Annotated[Float, Field(ge=0.0, le=1.0)]
Positive = Annotated[Float, Field(gt=0.0)]
NotNegative = Annotated[Float, Field(ge=0.0)]
Count = Annotated[StrictInt, Field(ge=1)]
CountOrZero = Annotated[StrictInt, Field(ge=0)]
Odd = Annotated[Count, AfterValidator(_refuse_even)]
Dropout = Annotated[Float, Field(ge=0.0, le=0.9)]
Text = Annotated[StrictStr, Field(min_length=1)]
Range = tuple[Float, Float]
Pair = tuple[Count, Count]


class Section(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _check_ordered(section: BaseModel, *names: str) -> None:
    for name in names:
        low, high = getattr(section, name)
        if low > high:
            raise ValueError(f"{name}: {low:g} is above {high:g}; expected [low, high]")


class DataConfig(Section):
    """Which recordings are used, and as what."""

    root: Path = Path("data")
    prepared: Path = Path("prepared/kws")
    keywords: tuple[StrictStr, ...] = Field(min_length=1)
    sample_rate: Annotated[Count, Field(ge=4000, le=96000)] = 16000
    clip_seconds: Annotated[Positive, Field(le=10.0)] = 1.0
    min_seconds: Positive = 0.1
    max_seconds: Positive = 10.0
    validation_percent: Annotated[Float, Field(ge=0.0, le=50.0)] = 10.0
    testing_percent: Annotated[Float, Field(ge=0.0, le=50.0)] = 10.0
    unknown_ratio: NotNegative = 3.0
    left_out: tuple[StrictStr, ...] = ()
    silence_ratio: NotNegative = 1.0
    silence_gain_db: Range = (-50.0, 0.0)
    attribution: StrictStr = ""
    licence: StrictStr = ""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        _check_ordered(self, "silence_gain_db")
        repeated = {word for word in self.keywords if self.keywords.count(word) > 1}
        if repeated:
            raise ValueError(f"keywords: {', '.join(sorted(repeated))} repeated")
        for word in self.keywords:
            if word in (UNKNOWN, SILENCE) or word.startswith(("_", ".")) or "/" in word or not word.strip():
                raise ValueError(f"keywords: {word!r} cannot be a keyword; expected the name of a word's folder")
        both = set(self.keywords) & set(self.left_out)
        if both:
            raise ValueError(f"left_out: {', '.join(sorted(both))} is a keyword; expected other words")
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds: {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        return self

    @property
    def num_samples(self) -> int:
        """Samples of the window that the model listens to."""
        return round(self.clip_seconds * self.sample_rate)


class FeatureConfig(Section):
    """The log-mel front end."""

    n_fft: Annotated[Count, Field(ge=16, le=8192)] = 512
    window_ms: Positive = 30.0
    hop_ms: Positive = 10.0
    num_mels: Annotated[Count, Field(le=256)] = 40
    fmin_hz: NotNegative = 20.0
    fmax_hz: Positive = 8000.0
    log_offset: Positive = 1e-6

    @model_validator(mode="after")
    def _check(self) -> FeatureConfig:
        if self.fmin_hz >= self.fmax_hz:
            raise ValueError(f"fmin_hz: {self.fmin_hz:g} is not below fmax_hz {self.fmax_hz:g}")
        return self


class AugmentConfig(Section):
    """What is varied at random while training; all zeros switch it off."""

    shift_ms: NotNegative = 100.0
    speed: Annotated[Float, Field(ge=0.0, le=0.5)] = 0.25
    tilt: Annotated[Float, Field(ge=0.0, lt=1.0)] = 0.8
    gain_db: Range = (-12.0, 6.0)
    noise_probability: Probability = 0.8
    snr_db: Range = (0.0, 30.0)
    time_masks: CountOrZero = 2
    time_mask_frames: CountOrZero = 12
    frequency_masks: CountOrZero = 2
    frequency_mask_bins: CountOrZero = 4

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        _check_ordered(self, "gain_db", "snr_db")
        return self


class TrainingConfig(Section):
    """The optimisation."""

    model: Path = Path("models/kws")
    checkpoints: Path = Path("runs/kws")
    teacher: Optional[Path] = None
    epochs: Count = 20
    batch_size: Count = 64
    learning_rate: Annotated[Positive, Field(le=10.0)] = 0.01
    warmup_epochs: NotNegative = 2.0
    weight_decay: NotNegative = 0.01
    label_smoothing: Annotated[Float, Field(ge=0.0, lt=1.0)] = 0.05
    max_gradient_norm: Positive = 5.0
    early_stop_epochs: Count = 8
    num_threads: CountOrZero = 0

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs:g} of {self.epochs} epochs; expected fewer")
        return self


class TrackingConfig(Section):
    """Where runs are recorded."""

    enabled: StrictBool = True
    uri: Text = "sqlite:///mlflow.db"
    experiment: Text = "kws"
    on_failure: Literal["error", "local"] = "error"


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


class Config(Section):
    """A whole configuration file."""

    seed: CountOrZero = 0
    architecture: Path = Path("configs/arch/small.yaml")
    data: DataConfig
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        window = round(self.features.window_ms * self.data.sample_rate / 1000)
        if window > self.features.n_fft:
            raise ValueError(f"features.window_ms: {window} samples at {self.data.sample_rate} Hz; "
                             f"expected at most features.n_fft = {self.features.n_fft}")
        if self.features.hop_ms * self.data.sample_rate < 1000:
            raise ValueError(f"features.hop_ms: {self.features.hop_ms:g} ms is less than one sample")
        if self.features.fmax_hz > self.data.sample_rate / 2:
            raise ValueError(f"features.fmax_hz: {self.features.fmax_hz:g}; "
                             f"expected at most half of data.sample_rate = {self.data.sample_rate}")
        return self


SectionType = TypeVar("SectionType", bound=Section)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, with `section.key=value` overrides on top (values are YAML).

    Raises:
        ConfigError: with all problems, each naming its key, what was found and what was expected.
    """
    document = read_yaml(path)
    for override in overrides:
        override_key(document, override)
    return _validate(Config, document, str(path))


def load_architecture(path: Path) -> Architecture:
    """Read an architecture file; raises ConfigError as `load_config` does."""
    document = read_yaml(path)
    named = _validate(Architecture, {key: document[key] for key in ("network",) if key in document}, str(path))
    return _validate(_ARCHITECTURES[named.network], document, str(path))


def _validate(section: type[SectionType], document: dict[str, Any], source: str) -> SectionType:
    try:
        return section.model_validate(document)
    except ValidationError as error:
        problems = [_problem(section, dict(item)) for item in error.errors()]
        raise ConfigError(source, [problem for problem in problems if problem]) from None


def _problem(section: type[Section], item: dict[str, Any]) -> str:
    """One line of a ConfigError: key, what was found, what was expected."""
    names = [str(part) for part in item["loc"]]
    key = "".join(f"[{name}]" if name.isdigit() else f".{name}" for name in names).lstrip(".")
    if item["type"] == "extra_forbidden":
        known = _keys_at(section, names[:-1])
        near: Optional[str] = next(iter(difflib.get_close_matches(names[-1], known, n=1)), None)
        return f"{key}: unknown key; " + (f"did you mean {near!r}?" if near else f"expected one of {', '.join(known)}")
    if item["type"] == "missing":
        return f"{key}: missing"
    if item["type"] == "too_short" and item["input"]:
        return ""  # its items are refused one by one already
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "value_error" and not isinstance(item["input"], (str, int, float)):
        return f"{key}.{message}" if key else message
    hint = f" ({_YAML_BOOLEAN})" if isinstance(item["input"], bool) else ""
    return f"{key}: found {item['input']!r}; {message}{hint}"


def _keys_at(section: type[Section], names: Sequence[str]) -> list[str]:
    """Keys of the nested section that `names` leads to."""
    for name in names:
        if name.isdigit():
            continue
        annotation = section.model_fields[name].annotation
        inner = getattr(annotation, "__args__", (annotation,))[0]
        section = inner if isinstance(inner, type) and issubclass(inner, Section) else section
    return list(section.model_fields)
