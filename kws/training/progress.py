"""Progress of a training: a bar over the steps, and a log line and a row of history for every epoch."""
from __future__ import annotations

import logging
import time
from typing import Any, Iterator, Optional

import pandas as pd
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)


class Progress(TrainerCallback):
    """A progress bar over an epoch's steps, a log line and a row of history for every epoch."""

    def __init__(self, clips_per_epoch: int) -> None:
        self.clips_per_epoch = clips_per_epoch
        self.seconds = 0.0
        self.epochs_timed = 0
        self._bar: Optional[tqdm] = None
        self._began = 0.0

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                       **kwargs: Any) -> None:
        """Open the bar and start the clock."""
        self._began = time.perf_counter()
        total = state.max_steps // int(args.num_train_epochs)
        self._bar = tqdm(total=total, desc=f"epoch {round(state.epoch or 0) + 1}/{args.num_train_epochs:g}",
                         unit="batch", leave=False, disable=None if state.is_world_process_zero else True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                     **kwargs: Any) -> None:
        """Stop the clock and close the bar."""
        self.seconds += time.perf_counter() - self._began
        self.epochs_timed += 1
        if self._bar is not None:
            self._bar.close()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
                    **kwargs: Any) -> None:
        """Log the results of the epoch."""
        if state.is_world_process_zero and self._bar is not None:
            row = history(state).iloc[-1]
            logger.info("epoch %d/%g: training loss %.3f, validation loss %.3f, accuracy %.2f %%, macro-F1 %.2f %% "
                        "(%.0f clips/s)", row.epoch, args.num_train_epochs, row.training_loss, row.validation_loss,
                        100 * row.accuracy, 100 * row.macro_f1, self.clips_per_second)

    @property
    def clips_per_second(self) -> float:
        """Clips trained per second, over the epochs of this process."""
        return self.epochs_timed * self.clips_per_epoch / self.seconds if self.seconds else 0.0


def history(state: TrainerState) -> pd.DataFrame:
    """One row an epoch: `epoch, training_loss, learning_rate, validation_loss, accuracy, macro_f1`."""
    return pd.DataFrame(_history_rows(state.log_history))


def _history_rows(log: list[dict[str, float]]) -> Iterator[dict[str, float]]:
    training: dict[str, float] = {}
    for entry in log:
        if "loss" in entry:
            training = entry
        elif "eval_loss" in entry:
            yield {"epoch": round(entry["epoch"]), "training_loss": training.get("loss", float("nan")),
                   "learning_rate": training.get("learning_rate", float("nan")),
                   "validation_loss": entry["eval_loss"], "accuracy": entry["eval_accuracy"],
                   "macro_f1": entry["eval_macro_f1"]}
