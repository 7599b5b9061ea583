"""The training job: prepared store and configuration -> model folder."""
from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Mapping, Optional, cast

import numpy as np
import torch
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback, TrainingArguments, set_seed
from transformers.utils.logging import disable_progress_bar

import kws
from kws.config.architecture import load_architecture
from kws.config.sections import Config
from kws.data.dataset import ClipDataset
from kws.data.split import TRAINING, VALIDATION
from kws.data.store import PreparedStore, load_matching_store
from kws.errors import ConfigError, ModelError
from kws.evaluation.metrics import headline, keyword_recall
from kws.files.atomic import atomic_folder, check_replaceable, explain_full_disk
from kws.files.locks import exclusive
from kws.inference.cores import available_cores
from kws.model.folder import CONFIG_FILE, MODEL_TYPE
from kws.model.labels import LabelSet
from kws.model.loading import labels_of
from kws.model.modeling import KwsForAudioClassification, build_model
from kws.tracking.tracker import EpochReporter, Tracker
from kws.training import checkpoints, loop
from kws.training.augment import Augmenter
from kws.training.body import start_from
from kws.training.model_folder import write_model_folder
from kws.training.prior import reweight_prior
from kws.training.processes.environment import processes
from kws.training.processes.peers import ALONE, Peers
from kws.training.progress import Progress, history

logger = logging.getLogger(__name__)

_EVALUATION_BATCH = 250
_FIGURES = ("accuracy", "macro_f1", "keyword_recall")  # of the validation, that are kept
_USEFUL = 0.5  # share of the keywords to find, and of what a constant answer gets wrong to get right


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Args:
        model: the model folder.
        epochs: epochs trained.
        validation: 0..1, of the finished model on the validation split: `accuracy`, `macro_f1`, and `keyword_recall`,
            the mean share of a keyword's clips that were answered with it.
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
        """Final figures for a tracker: `validation_*`, `epochs`, `clips_per_second`."""
        return {**{f"validation_{name}": value for name, value in self.validation.items()},
                "epochs": self.epochs, "clips_per_second": self.clips_per_second}


def train(config: Config, resume: bool = False, tracker: Optional[Tracker] = None,
          peers: Peers = ALONE) -> TrainingResult:
    """Train a model as configured and write its folder, whole or not at all.

    Args:
        config: the configuration.
        resume: continue from the last checkpoint instead of starting anew.
        tracker: receives metrics each epoch; None disables tracking.
        peers: the processes that train together, see `joined`.

    Raises:
        ConfigError: if the architecture does not fit the features.
        DataError: if the prepared store is missing or made for other settings, there is nothing to resume from, the
            checkpoints belong to another training ("other_training"), one runs there ("in_use"), or another process
            failed or trains something else ("other_process").
        FileExistsError: if the folder for the model holds something else.
        ModelError: "diverged" if the loss is no longer finite; "other_teacher" if a teacher is none for this model.
        TrackingError: if the training cannot be recorded; nothing was trained then.
    """
    store = load_matching_store(config.data.prepared, config.data.sample_rate, config.data.num_samples,
                                config.data.keywords)
    with ExitStack() as held:
        for path in (config.training.model, config.training.checkpoints):
            if peers.group.is_first:
                held.enter_context(exclusive(path, "a training"))
        check_replaceable(config.training.model, CONFIG_FILE, MODEL_TYPE)  # fail before training, not after
        return _train(config, store, peers, resume, tracker)


def _train(config: Config, store: PreparedStore, peers: Peers, resume: bool,
           tracker: Optional[Tracker]) -> TrainingResult:
    disable_progress_bar()  # of transformers, for every file it writes
    set_seed(config.seed)
    group = peers.group
    torch.set_num_threads(config.training.num_threads or max(1, available_cores() // group.on_this_machine))
    description = checkpoints.describe(config, store, group.count)
    last = checkpoints.to_resume(config.training.checkpoints, description) if resume and group.is_first else None
    peers.agree({**description, "--resume": resume, "kws": kws.__version__, "torch": torch.__version__})
    peers.connect()
    trainer, progress = _build_trainer(config, store)
    if tracker is not None:
        tracker.start(resume, {"prepared_digest": store.digest,
                               "num_parameters": str(trainer.get_num_trainable_parameters())})
        trainer.add_callback(EpochReporter(tracker))
    peers.agree()  # that nothing has failed; from here on a broken connection tells
    start = _start(config, trainer, checkpoints.from_first(last, config.training.checkpoints)) if resume else None
    if start is None and group.is_first:
        checkpoints.begin(config.training.checkpoints, description)
    try:
        with explain_full_disk(config.training.checkpoints):
            trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except KeyboardInterrupt:
        logger.warning("stopped at step %d of %d; --resume continues from the last finished epoch",
                       trainer.state.global_step, trainer.state.max_steps)
        raise
    trainer.load_kept_weights()
    result = _finish(config, trainer, progress)
    peers.give_folder(result.model)
    return result


def _start(config: Config, trainer: loop.KwsTrainer, start: checkpoints.Checkpoint) -> Path:
    """Return the checkpoint to go on from; where nothing is left to train, say so, and train nothing."""
    if start.is_last:
        how = "stopped early" if start.epoch < config.training.epochs else "finished"
        logger.warning("warning: %s: this training has %s, after epoch %d of %d; nothing is left to train, and the "
                       "model is written from its checkpoints", config.training.checkpoints, how, start.epoch,
                       config.training.epochs)
        trainer.args.num_train_epochs = start.epoch  # or one more would be trained after an early stop
    return start.path


def _build_trainer(config: Config, store: PreparedStore) -> tuple[loop.KwsTrainer, Progress]:
    settings, training = config.data, config.training
    clips = ClipDataset(store, TRAINING, settings.unknown_ratio, settings.silence_ratio, settings.silence_gain_db,
                        config.seed, settings.left_out, training.min_epoch_steps * training.batch_size)
    if clips.passes > 1:
        logger.info("%d training clips are few: an epoch goes through them %d times, for training.min_epoch_steps = %d",
                    len(clips) // clips.passes, clips.passes, training.min_epoch_steps)
    validation = ClipDataset(store, VALIDATION, None, settings.silence_ratio, settings.silence_gain_db, config.seed)
    progress = Progress(len(clips))
    trainer = loop.KwsTrainer(
        model=_build_model(config, store.labels), args=_training_arguments(config),
        train_dataset=clips, eval_dataset=validation, data_collator=_as_it_is,
        compute_metrics=partial(_validation_metrics, num_keywords=len(store.labels.keywords)),
        callbacks=[progress, EarlyStoppingCallback(training.early_stop_epochs)], batch_size=training.batch_size,
        augmenter=Augmenter(sample_rate=settings.sample_rate, **config.augment.model_dump()), noise=clips.noise,
        label_smoothing=training.label_smoothing, teachers=training.teachers)
    trainer.remove_callback(PrinterCallback)
    return trainer, progress


def _build_model(config: Config, labels: LabelSet) -> KwsForAudioClassification:
    if config.training.start_from is not None:
        return start_from(config.training.start_from, labels.names, config)
    architecture = load_architecture(config.architecture)
    try:
        return build_model(labels.names, config.data.sample_rate, config.data.num_samples,
                           config.features.model_dump(), architecture.as_json())
    except ValueError as error:
        raise ConfigError(str(config.architecture), [str(error)]) from None


def _training_arguments(config: Config) -> TrainingArguments:
    settings = config.training
    return TrainingArguments(
        output_dir=str(settings.checkpoints), seed=config.seed, data_seed=config.seed,
        num_train_epochs=settings.epochs, per_device_train_batch_size=max(1, settings.batch_size // processes().count),
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
    return "gloo" if processes().is_joined and not torch.cuda.is_available() else None


def _as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The data set hands out whole batches; there is nothing to collate."""
    return batch


def _validation_metrics(prediction: EvalPrediction, num_keywords: int) -> dict[str, float]:
    logits, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    if not np.isfinite(logits).all():
        raise ModelError("training diverged: logits are NaN or infinite; lower training.learning_rate", "diverged")
    answers = logits.argmax(axis=1)
    return {**headline(targets, answers), "keyword_recall": keyword_recall(targets, answers, num_keywords)}


def _warn_if_useless(validation: Mapping[str, float], targets: np.ndarray, labels: LabelSet) -> None:
    """Warn if a model hardly beats a constant answer: accuracy alone looks good where one label is frequent."""
    counts = np.bincount(targets, minlength=len(labels))
    share = float(counts.max() / counts.sum())
    if validation["keyword_recall"] < _USEFUL or validation["accuracy"] - share < _USEFUL * (1 - share):
        logger.warning("warning: of little use: this model finds %.1f %% of the keywords, and %.1f %% of its answers "
                       "are right where always answering %s would give %.1f %%; more recordings of each keyword help, "
                       "then more training.epochs", 100 * validation["keyword_recall"], 100 * validation["accuracy"],
                       labels.names[counts.argmax()], 100 * share)


def _finish(config: Config, trainer: loop.KwsTrainer, progress: Progress) -> TrainingResult:
    """Write the model folder from the weights of the kept epoch, which the trainer has."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    rows, clips = history(trainer.state), cast(ClipDataset, trainer.eval_dataset)
    reweight_prior(model, config.training.keyword_rarity)  # non-keywords are commoner in use than in training
    metrics = trainer.predict(clips, metric_key_prefix="validation").metrics or {}
    validation = {name: metrics[f"validation_{name}"] for name in _FIGURES}
    _warn_if_useless(validation, clips.label_ids, labels_of(model))
    result = TrainingResult(config.training.model, int(rows["epoch"].max()), validation, model.num_parameters(),
                            progress.clips_per_second)
    if trainer.is_world_process_zero():
        summary = {"validation": validation, "kept_epoch": loop.kept_epoch(rows, len(clips)), "epochs": result.epochs,
                   "num_parameters": result.num_parameters, "seed": config.seed}
        with atomic_folder(config.training.model) as folder:
            write_model_folder(folder, model, config.data, summary)
            rows.to_csv(folder / "history.csv", index=False)
    return result
