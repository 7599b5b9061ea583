"""The training loop: every epoch draws anew, every batch is augmented where it is trained on, one epoch is kept."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Optional, Sequence, cast

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kws.data.dataset import Batches, ClipDataset
from kws.data.noise_bank import NoiseBank
from kws.training.augment import Augmenter
from kws.training.distillation import Teachers
from kws.training.progress import history


class EpochDraw(TrainerCallback):
    """Draw the clips of every epoch, and their order, by its number: a resumed training draws the same clips."""

    def __init__(self, clips: ClipDataset, batches: Batches) -> None:
        self.clips, self.batches = clips, batches

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       **kwargs: Any) -> None:
        """Draw, before the first batch is fetched."""
        epoch = round(state.epoch or 0)
        self.clips.set_epoch(epoch)
        self.batches.set_epoch(epoch)


class KwsTrainer(Trainer):
    """A `Trainer` that draws every epoch anew and augments each training batch on the device it is trained on."""

    def __init__(self, *, augmenter: Augmenter, noise: Optional[NoiseBank], label_smoothing: float,
                 teachers: Sequence[Path], batch_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        clips = cast(ClipDataset, self.train_dataset)
        self.batches = Batches(len(clips), batch_size, self.args.seed, self.args.process_index, self.args.world_size)
        self.add_callback(EpochDraw(clips, self.batches))
        self.teachers = Teachers(teachers, kwargs["model"], self.args.device) if teachers else None
        self.augmenter = augmenter
        self.noise = noise.to(self.args.device) if noise else None
        self.label_smoothing = label_smoothing

    def get_train_dataloader(self) -> DataLoader:
        """Return this process's share of every batch; without accelerate's sharding, which hears some clips twice."""
        return DataLoader(cast(ClipDataset, self.train_dataset), batch_sampler=self.batches,
                          collate_fn=self.data_collator, pin_memory=self.args.dataloader_pin_memory)

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
        """Leave it to `load_kept_weights`: `Trainer` calls this only where the checkpoints are."""

    def load_kept_weights(self) -> None:
        """Go back to the best epoch's weights where that is the one to keep, not the last; alike in all processes."""
        rows = history(self.state)
        is_earlier = kept_epoch(rows, len(cast(ClipDataset, self.eval_dataset))) < rows["epoch"].max()
        if is_earlier and self.is_world_process_zero():
            super()._load_best_model()
        if torch.distributed.is_initialized():
            for weight in self.accelerator.unwrap_model(self.model).state_dict().values():
                torch.distributed.broadcast(weight, src=0)

    @torch.no_grad()
    def _augmented_features(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, 1, M, F]; drawn from the seed and the step, so that a resumed training draws the same."""
        entropy = [self.args.seed, self.state.global_step, self.args.process_index]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
        return self.augmenter.spectrograms(waveforms, self.noise.draw if self.noise else None,
                                           self.accelerator.unwrap_model(self.model).features,
                                           torch.Generator().manual_seed(seed))


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
