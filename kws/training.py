"""The training job: prepared store and configuration -> model folder."""
from __future__ import annotations

import json
import logging
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence, cast

import numpy as np
import pandas as pd
import torch
from transformers import (EarlyStoppingCallback, EvalPrediction, PrinterCallback, Trainer, TrainingArguments,
                          set_seed)
from transformers.utils.logging import disable_progress_bar

from kws.architecture import load_architecture
from kws.atomic import atomic_folder, check_replaceable, explain_full_disk
from kws.augment import Augmenter
from kws.config import Config
from kws.data.noise import NoiseBank
from kws.data.sampling import ClipDataset
from kws.data.store import PreparedStore, load_store
from kws.distillation import Teachers
from kws.errors import ConfigError, DataError, ModelError
from kws.labels import LabelSet
from kws.metrics import headline
from kws.model_card import write_model_card
from kws.modeling import KwsFeatureExtractor, KwsForAudioClassification, build_model
from kws.progress import Progress, history
from kws.rarity import expect_keywords
from kws.tracking import EpochReporter, Tracker

logger = logging.getLogger(__name__)

_EVALUATION_BATCH = 250
_MODEL_FILE = "model.safetensors"
# Written last of a checkpoint's files: a checkpoint without it was cut off.
_LAST_WRITTEN = "trainer_state.json"


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Args:
        model: the model folder.
        epochs: epochs trained.
        validation: metrics of the finished model on the validation split.
        num_parameters: weights that were trained.
        clips_per_second: of the whole training loop, evaluation left out.
    """

    model: Path
    epochs: int
    validation: dict[str, float]
    num_parameters: int
    clips_per_second: float

    @property
    def figures(self) -> dict[str, float]:
        """What a tracker records of it."""
        return {**{f"validation_{name}": value for name, value in self.validation.items()},
                "epochs": self.epochs, "clips_per_second": self.clips_per_second}


class KwsTrainer(Trainer):
    """A `Trainer` that augments each training batch on the device it is trained on."""

    def __init__(self, *, augmenter: Augmenter, noise: Optional[NoiseBank], label_smoothing: float,
                 teachers: Sequence[Path], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.teachers = Teachers(teachers, kwargs["model"], self.args.device) if teachers else None
        self.augmenter = augmenter
        self.noise = noise.to(self.args.device) if noise else None
        self.label_smoothing = label_smoothing

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False,
                     num_items_in_batch: torch.Tensor | int | None = None) -> Any:
        """Cross-entropy; in training of augmented clips, with smoothed labels and perhaps teachers' answers."""
        if not model.training:
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss
        features = self._augmented_features(inputs["input_values"])
        outputs = model(input_features=features)
        loss = torch.nn.functional.cross_entropy(outputs.logits, inputs["labels"], label_smoothing=self.label_smoothing)
        if self.teachers:
            loss = self.teachers.loss(loss, outputs.logits, features)
        return (loss, outputs) if return_outputs else loss

    def _load_best_model(self) -> None:
        """Go back to the best epoch's weights where that is the one to keep, and not the last."""
        rows = history(self.state)
        if kept_epoch(rows, len(cast(ClipDataset, self.eval_dataset))) < rows["epoch"].max():
            super()._load_best_model()

    @torch.no_grad()
    def _augmented_features(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, 1, M, F]; drawn from the seed and the step, so that a resumed training draws the same."""
        entropy = [self.args.seed, self.state.global_step, self.args.process_index]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
        return self.augmenter.spectrograms(waveforms, self.noise.draw if self.noise else None,
                                           self.accelerator.unwrap_model(self.model).features,
                                           torch.Generator().manual_seed(seed))


def train(config: Config, resume: bool = False, tracker: Optional[Tracker] = None) -> TrainingResult:
    """Train a model as configured and write its folder, whole or not at all.

    Args:
        config: the configuration.
        resume: continue from the last checkpoint instead of starting anew.
        tracker: is told of every epoch; None: nobody is.

    Raises:
        ConfigError: if the architecture does not fit the features.
        DataError: if the prepared store is missing or made for other settings, or there is nothing to resume from.
        FileExistsError: if the folder for the model holds something else.
        ModelError: "diverged" if the loss is no longer finite; "other_teacher" if a teacher is none for this model.
        TrackingError: if the training cannot be recorded; nothing was trained then.
    """
    check_replaceable(config.training.model, _MODEL_FILE)  # now: after the training it would be a pity
    disable_progress_bar()  # of transformers, for every file it writes
    set_seed(config.seed)
    torch.set_num_threads(config.training.num_threads or os.cpu_count() or 1)
    store = _load_matching_store(config)
    checkpoint = _checkpoint_to_resume(config.training.checkpoints) if resume else None
    trainer, progress = _build_trainer(config, store)
    if tracker is not None:
        tracker.start(resume, {"prepared_digest": store.digest,
                               "num_parameters": str(trainer.get_num_trainable_parameters())})
        trainer.add_callback(EpochReporter(tracker))
    if checkpoint is None and trainer.is_world_process_zero():
        for old in config.training.checkpoints.glob("checkpoint-*"):  # the folder may hold other things
            shutil.rmtree(old)
    try:
        with explain_full_disk(config.training.checkpoints):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except KeyboardInterrupt:
        logger.warning("stopped at step %d of %d; --resume continues from the last finished epoch",
                       trainer.state.global_step, trainer.state.max_steps)
        raise
    return _finish(config, trainer, progress)


def kept_epoch(rows: pd.DataFrame, num_clips: int) -> int:
    """Choose the last epoch, or the one of the best macro-F1 if that is better by more than two standard errors.

    The best of many epochs is lucky with a few clips, and an early one may be points worse in noise. Preferring what is
    as good as can be told is the idea of L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.

    Args:
        rows: the epochs so far, as `history` gives them.
        num_clips: that they were validated on.
    """
    best, last = rows.iloc[int(rows["macro_f1"].argmax())], rows.iloc[-1]
    error = math.sqrt(best["accuracy"] * (1 - best["accuracy"]) / num_clips)
    return int((best if best["macro_f1"] - last["macro_f1"] > 2 * error else last)["epoch"])


def _load_matching_store(config: Config) -> PreparedStore:
    """Load the prepared store; raise DataError if it was prepared for other settings."""
    store = load_store(config.data.prepared)
    found = (store.sample_rate, store.waveforms.shape[1], store.labels.names)
    expected = (config.data.sample_rate, config.data.num_samples, LabelSet.from_keywords(config.data.keywords).names)
    if found != expected:
        raise DataError(f"{config.data.prepared}: prepared for {found}; the configuration asks for {expected}; "
                        "run scripts/prepare.py again", "stale_store")
    return store


def _checkpoint_to_resume(folder: Path) -> Path:
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{_LAST_WRITTEN}")]
    if not complete:
        raise DataError(f"{folder}: no checkpoint to resume from; train without --resume", "no_checkpoint")
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]))


def _build_trainer(config: Config, store: PreparedStore) -> tuple[KwsTrainer, Progress]:
    settings = config.data
    training = ClipDataset(store, "training", settings.unknown_ratio, settings.silence_ratio,
                           settings.silence_gain_db, config.seed, settings.left_out)
    validation = ClipDataset(store, "validation", None, settings.silence_ratio, settings.silence_gain_db, config.seed)
    progress = Progress(len(training))
    trainer = KwsTrainer(
        model=_build_model(config, store.labels), args=_training_arguments(config),
        train_dataset=training, eval_dataset=validation, data_collator=_as_it_is,
        compute_metrics=_validation_metrics,
        callbacks=[progress, EarlyStoppingCallback(config.training.early_stop_epochs)],
        augmenter=Augmenter(sample_rate=settings.sample_rate, **config.augment.model_dump()),
        noise=training.noise,
        label_smoothing=config.training.label_smoothing, teachers=config.training.teachers)
    trainer.remove_callback(PrinterCallback)
    return trainer, progress


def _build_model(config: Config, labels: LabelSet) -> KwsForAudioClassification:
    architecture = load_architecture(config.architecture)
    try:
        return build_model(labels.names, config.data.sample_rate, config.data.num_samples,
                           config.features.model_dump(), architecture.model_dump(mode="json"))
    except ValueError as error:
        raise ConfigError(str(config.architecture), [str(error)]) from None


def _training_arguments(config: Config) -> TrainingArguments:
    settings = config.training
    return TrainingArguments(
        output_dir=str(settings.checkpoints), seed=config.seed, data_seed=config.seed,
        num_train_epochs=settings.epochs, per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=_EVALUATION_BATCH, learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay, lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_epochs / settings.epochs, max_grad_norm=settings.max_gradient_norm,
        eval_strategy="epoch", save_strategy="epoch", logging_strategy="epoch", save_total_limit=2,
        load_best_model_at_end=True, metric_for_best_model="macro_f1", greater_is_better=True,
        restore_callback_states_from_checkpoint=True, remove_unused_columns=False, label_names=["labels"],
        use_cpu=not torch.cuda.is_available(), ddp_backend=_cpu_backend(), ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(), disable_tqdm=True, report_to=[])


def _cpu_backend() -> Optional[str]:
    """Name the backend that joins processes on CPUs; None without torchrun, or where there are GPUs."""
    return "gloo" if "WORLD_SIZE" in os.environ and not torch.cuda.is_available() else None


def _as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The data set hands out whole batches; there is nothing to collate."""
    return batch


def _validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    if not np.isfinite(logits).all():
        raise ModelError("training diverged: logits are NaN or infinite; lower training.learning_rate", "diverged")
    return headline(targets, logits.argmax(axis=1))


def _finish(config: Config, trainer: KwsTrainer, progress: Progress) -> TrainingResult:
    """Write the model folder from the weights of the kept epoch, which the trainer has."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    rows, clips = history(trainer.state), cast(ClipDataset, trainer.eval_dataset)
    expect_keywords(model, config.training.keyword_rarity)  # life has more words than a data set
    metrics = trainer.predict(clips, metric_key_prefix="validation").metrics or {}
    validation = {name: metrics[f"validation_{name}"] for name in ("accuracy", "macro_f1")}
    result = TrainingResult(config.training.model, int(rows["epoch"].max()), validation,
                            sum(parameter.numel() for parameter in model.parameters()), progress.clips_per_second)
    if trainer.is_world_process_zero():
        summary = {"validation": validation, "kept_epoch": kept_epoch(rows, len(clips)), "epochs": result.epochs,
                   "num_parameters": result.num_parameters, "seed": config.seed}
        with atomic_folder(config.training.model) as folder:
            model.save_pretrained(folder)
            KwsFeatureExtractor(config.data.sample_rate, config.data.num_samples).save_pretrained(folder)
            (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            rows.to_csv(folder / "history.csv", index=False)
            write_model_card(folder / "README.md", config.data.keywords, config.data.sample_rate,
                             config.data.num_samples, summary, config.data.attribution, config.data.licence)
    return result
