"""Rank and world size of this process: the only reader of what torchrun sets in the environment."""
from __future__ import annotations

import os
from dataclasses import dataclass

from kws.errors import ConfigError

_NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What makes libraries look for other processes: torchrun's names, and those of MPI launchers.
_MISLEADING = (*_NEEDED, "LOCAL_WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE",
               "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK")


@dataclass(frozen=True)
class Processes:
    """The processes of one training.

    Args:
        rank: of this one, 0 to count - 1.
        count: of all.
        local_rank: of this one, among those on this machine.
        on_this_machine: how many of them share this machine's processors.
        is_joined: torchrun started them, if only one.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    on_this_machine: int = 1
    is_joined: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that logs and writes for all."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this is the process that speaks and writes for its machine."""
        return self.local_rank == 0


def processes() -> Processes:
    """Read what torchrun set; a process with only part of that, which others set too, is alone.

    Raises:
        ConfigError: if there are to be several processes, but they cannot find each other.
    """
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    count = _number("WORLD_SIZE", 1)
    if missing:
        if count > 1:
            raise ConfigError("environment", [f"WORLD_SIZE: found {count}, without {', '.join(missing)}; start several "
                                              "processes with torchrun, or unset WORLD_SIZE to train with one"])
        return Processes()
    rank = _number("RANK", 0)
    if not 0 <= rank < count:
        raise ConfigError("environment", [f"RANK: found {rank}; expected 0 to WORLD_SIZE - 1 = {count - 1}"])
    return Processes(rank, count, _number("LOCAL_RANK", 0), max(1, _number("LOCAL_WORLD_SIZE", count)), is_joined=True)


def forget_others() -> None:
    """Keep libraries from waiting for other processes, where this one is alone."""
    for name in _MISLEADING:
        os.environ.pop(name, None)


def check_alone(job: str) -> None:
    """Refuse to do something in several processes that would all write the same files.

    Args:
        job: what takes one process, for the message.
    Raises:
        ConfigError: if torchrun started several.
    """
    if (count := processes().count) > 1:
        raise ConfigError("environment", [f"WORLD_SIZE: found {count} processes; {job} takes one. Start it without "
                                          "torchrun"])


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        raise ConfigError("environment", [f"{name}: found {text!r}; expected a number"]) from None
