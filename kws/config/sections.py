"""Configuration: YAML file -> frozen, typed sections -> plain keyword arguments for the components.

Each section checks what it owns; `Config` checks across sections. Every problem of a file is reported at once.
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Sequence

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictBool, StrictStr, model_validator

from kws.config.schema import (Count, CountOrZero, Float, NotNegative, Positive, Probability, Range, Section, Text,
                               validate)
from kws.config.yaml_files import override_key, read_yaml
from kws.model.labels import check_word


def _refuse_unquoted(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("expected a word; YAML reads an unquoted null, ~ or number as something else: quote it")
    return value


def _check_speaker_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "speaker" not in groups:
        raise ValueError("expected a group called speaker, for example ^[^/]+/(?P<speaker>[^/]+)/")
    return pattern


def _check_named(folder: Path) -> Path:
    if not folder.name:
        raise ValueError("expected the path of a folder with a name of its own, for example runs/kws")
    return folder


_CLIPS_HEARD = 1.5  # of running sound at least: a clip that is slowed down, and what is before it

Word = Annotated[StrictStr, BeforeValidator(_refuse_unquoted), AfterValidator(check_word)]


def _check_ordered(section: BaseModel, *names: str) -> None:
    for name in names:
        low, high = getattr(section, name)
        if low > high:
            raise ValueError(f"{name}: {low:g} is above {high:g}; expected [low, high]")


class DataConfig(Section):
    """Which recordings are used, and as what."""

    root: Path = Path("data")
    prepared: Path = Path("prepared/kws")
    keywords: tuple[Word, ...] = Field(min_length=1)
    sample_rate: Annotated[Count, Field(ge=4000, le=96000)] = 16000
    clip_seconds: Annotated[Positive, Field(le=10.0)] = 1.0
    min_seconds: Positive = 0.1
    max_seconds: Positive = 10.0
    speaker_pattern: Annotated[StrictStr, AfterValidator(_check_speaker_pattern)] = "(?P<speaker>[^/]+?)_nohash_[^/]*$"
    split_by: Literal["speaker", "take"] = "speaker"
    validation_percent: Annotated[Float, Field(ge=0.0, le=50.0)] = 10.0
    testing_percent: Annotated[Float, Field(ge=0.0, le=50.0)] = 10.0
    unknown_ratio: NotNegative = 3.0
    left_out: tuple[Word, ...] = ()
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
    """Random augmentation in training; all zeros switch it off."""

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
    checkpoints: Annotated[Path, AfterValidator(_check_named)] = Path("runs/kws")
    start_from: Optional[Path] = None
    trains: Literal["network", "classifier"] = "network"
    variations: Count = 12
    refused: Annotated[Float, Field(ge=0.5, lt=1.0)] = 0.98
    teachers: tuple[Path, ...] = ()
    epochs: Count = 20
    min_epoch_steps: CountOrZero = 50
    batch_size: Count = 64
    learning_rate: Annotated[Positive, Field(le=10.0)] = 0.01
    warmup_epochs: NotNegative = 2.0
    weight_decay: NotNegative = 0.01
    label_smoothing: Annotated[Float, Field(ge=0.0, lt=1.0)] = 0.05
    max_gradient_norm: Positive = 5.0
    keyword_rarity: Positive = 4.0
    early_stop_epochs: Count = 8
    num_threads: CountOrZero = 0

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs:g} of {self.epochs} epochs; expected fewer")
        if self.trains == "classifier" and self.start_from is None:
            raise ValueError("trains: found classifier, without start_from; expected a model folder to start from")
        return self

    def log_file(self, ending: str = "log") -> Path:
        """Name the log of a training: beside its checkpoints, whole name kept, which may have a dot (runs/lr0.01)."""
        return self.checkpoints.with_name(f"{self.checkpoints.name}.{ending}")


class StreamsConfig(Section):
    """Training on for running sound."""

    negatives: tuple[Path, ...] = ()
    start_from: Optional[Path] = None
    second_look: Optional[Path] = None
    seconds: Annotated[Positive, Field(ge=2.0, le=30.0)] = 4.0
    steps: CountOrZero = 800
    batch_size: Count = 12
    learning_rate: Annotated[Positive, Field(le=10.0)] = 0.0015
    negative_weight: Positive = 3.0
    smoothing_seconds: Annotated[Positive, Field(le=2.0)] = 0.3
    threshold: Annotated[Float, Field(gt=0.0, lt=1.0)] = 0.7
    workers: Annotated[CountOrZero, Field(le=256)] = 0


class TrackingConfig(Section):
    """Where runs are recorded."""

    enabled: StrictBool = True
    uri: Text = "sqlite:///mlflow.db"
    experiment: Text = "kws"
    on_failure: Literal["error", "local"] = "error"


class Config(Section):
    """A whole configuration file."""

    seed: Annotated[CountOrZero, Field(lt=2**32)] = 0
    architecture: Path = Path("configs/arch/small.yaml")
    data: DataConfig
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    streams: StreamsConfig = StreamsConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        window = round(self.features.window_ms * self.data.sample_rate / 1000)
        if not 2 <= window <= self.features.n_fft:
            raise ValueError(f"features.window_ms: {window} samples at {self.data.sample_rate} Hz; "
                             f"expected 2 to features.n_fft = {self.features.n_fft}")
        if self.features.hop_ms * self.data.sample_rate < 1000:
            raise ValueError(f"features.hop_ms: {self.features.hop_ms:g} ms is less than one sample")
        is_for_streams = self.streams.steps > 0 and self.training.trains == "network"
        if is_for_streams and self.streams.seconds < _CLIPS_HEARD * self.data.clip_seconds:
            raise ValueError(f"streams.seconds: {self.streams.seconds:g}; expected at least {_CLIPS_HEARD:g} times "
                             f"data.clip_seconds = {self.data.clip_seconds:g}, so that keywords fit in, or "
                             "streams.steps = 0, to train for clips only")
        if self.streams.second_look is not None and self.training.trains == "classifier":
            raise ValueError(f"streams.second_look: found {self.streams.second_look}; expected null, as "
                             "training.trains: classifier trains no network")
        if self.features.fmax_hz > self.data.sample_rate / 2:
            raise ValueError(f"features.fmax_hz: {self.features.fmax_hz:g}; "
                             f"expected at most half of data.sample_rate = {self.data.sample_rate}")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, with `section.key=value` overrides on top (values are YAML).

    Raises:
        ConfigError: with all problems, each naming its key, what was found and what was expected.
    """
    document = read_yaml(path)
    for override in overrides:
        override_key(document, override)
    return validate(Config, document, str(path))
