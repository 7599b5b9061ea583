"""Checkpoints of a training: which training they belong to, and which one to resume from.

The folder says in `training.json` what decides the weights: data, labels, network, settings, seed. A training that
differs in any of them is another one, and does not go on from them. Paths are no part of it: the project may move.
"""
from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Optional

import torch.distributed

from kws.config.architecture import configured_architecture
from kws.config.sections import Config
from kws.config.yaml_files import flatten
from kws.data.store import PreparedStore
from kws.errors import DataError
from kws.files.atomic import atomic_file
from kws.model.folder import WEIGHTS_FILE
from kws.training.processes.peers import differences, files_of

_RECORD = "training.json"
_STATE = "trainer_state.json"  # written last of a checkpoint's files: a checkpoint without it was cut off
_WITHOUT_INFLUENCE = {"model", "checkpoints", "teachers", "keyword_rarity", "num_threads"}  # on the weights' way
_DATA = {"sample_rate", "clip_seconds", "unknown_ratio", "left_out", "silence_ratio", "silence_gain_db"}


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Args:
        path: its folder.
        epoch: after which it was written.
        is_last: nothing remains to be trained: all epochs are over, or no better one came for long.
    """

    path: Path
    epoch: int
    is_last: bool


def describe(config: Config, store: PreparedStore, num_processes: int) -> dict[str, Any]:
    """Collect everything that determines the weights of a training, as plain values by dotted names."""
    tree = {
        "recordings": store.digest, "labels": list(store.labels), "seed": config.seed,
        "network": configured_architecture(config).as_json(),
        "data": config.data.model_dump(mode="json", include=_DATA),
        "features": config.features.model_dump(mode="json"), "augment": config.augment.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json", exclude=_WITHOUT_INFLUENCE),
        "teachers": [_hash(folder / WEIGHTS_FILE) for folder in config.training.teachers],
        "processes": num_processes}
    if config.training.start_from is not None:
        tree["start_from"] = _hash(config.training.start_from / WEIGHTS_FILE)
    return flatten(tree)


def begin(folder: Path, description: Mapping[str, Any]) -> None:
    """Make a folder ready for a new training: old checkpoints go, other files in it stay."""
    for old in folder.glob("checkpoint-*"):
        shutil.rmtree(old)
    with atomic_file(folder / _RECORD) as path:
        path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def to_resume(folder: Path, description: Mapping[str, Any]) -> Checkpoint:
    """Find the last whole checkpoint of a training.

    Raises:
        DataError: "no_checkpoint" without one; "other_training" if they belong to a training that differs.
    """
    states = {path.parent: _read_state(path) for path in folder.glob(f"checkpoint-*/{_STATE}")}
    complete = [path for path, state in states.items() if state]
    if not complete:
        raise DataError(f"{folder}: no checkpoint to resume from; train without --resume", "no_checkpoint")
    _check_same(folder, description)
    path = max(complete, key=lambda path: int(path.name.rpartition("-")[2]))
    state = states[path]
    best = folder / f"checkpoint-{state['best_global_step']}"
    if not best.is_dir():
        raise DataError(f"{best}: not there, and the best epoch so far is in it; train without --resume",
                        "no_checkpoint")
    if state["best_model_checkpoint"] != str(best):  # the folder was moved since
        state["best_model_checkpoint"] = str(best)
        with atomic_file(path / _STATE) as changed:
            changed.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    has_stopped = state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]
    return Checkpoint(path, round(state["epoch"]), has_stopped or state["global_step"] >= state["max_steps"])


def _read_state(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint; empty if a power failure or a full disk left none of it, or a part."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        return {}


def _check_same(folder: Path, description: Mapping[str, Any]) -> None:
    path = folder / _RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{path}: missing or unreadable, so nothing says which training these checkpoints belong to; "
                        "train without --resume", "other_training") from None
    different = differences(description, found)
    if different:
        raise DataError(f"{folder}: its checkpoints belong to another training: {'; '.join(different)}. Resume with "
                        "what it was begun with, or train without --resume to begin anew", "other_training")


def from_first(checkpoint: Optional[Checkpoint], folder: Path) -> Checkpoint:
    """Give every process the checkpoint that the first one chose, also where they share no disk.

    Args:
        checkpoint: in the first process; others give None.
        folder: of this process's checkpoints.
    """
    if not torch.distributed.is_initialized():
        assert checkpoint is not None
        return checkpoint
    sent: list[Any] = [checkpoint, checkpoint and files_of(checkpoint.path)]
    torch.distributed.broadcast_object_list(sent)
    chosen, files = sent
    for name, content in files.items():
        path = folder / chosen.path.name / name
        if not path.is_file() or path.read_bytes() != content:
            with atomic_file(path) as changed:
                changed.write_bytes(content)
    return replace(chosen, path=folder / chosen.path.name)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
