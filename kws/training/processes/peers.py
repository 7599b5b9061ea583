"""The processes of one training among themselves: they agree before they begin, and an error of one ends all.

They meet in the key-value store that torchrun keeps on the first machine. A process that failed alone would leave the
others waiting, and one that trains on something else would spoil their training.
"""
from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
import warnings
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

import psutil
import torch
from torch import distributed
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # exported, but not by name
from torch.distributed.rendezvous import rendezvous

from kws.errors import ConfigError, DataError, KwsError
from kws.files.atomic import atomic_folder
from kws.training.processes.environment import Processes, forget_others, processes

_INTERFACE = "GLOO_SOCKET_IFNAME"
_PATIENCE = 300.0  # s to wait for another process, which may read a large store meanwhile, or write a model
_FAREWELL = 10.0  # s to wait until the others have read what ends the training
_LOOK_EVERY = 0.05  # s
_LOST = ("gloo", "NCCL")  # in the text of errors that have no class of their own
_AGAIN = "start all processes again, with --resume once an epoch is finished"


class Peers:
    """All processes of a training, seen from this one.

    Args:
        group: who they are.
        store: that all of them reach; None if there is only this one.
    """

    def __init__(self, group: Processes, store: Optional[Store] = None) -> None:
        self.group = group
        self._store = store
        self._meetings = 0

    def agree(self, facts: Optional[Mapping[str, Any]] = None) -> None:
        """Wait for all processes; end together if one of them failed, does not come, or differs from the first.

        Args:
            facts: what has to be the same in all of them, as plain values by name.
        Raises:
            DataError: "other_process".
        """
        problem = self._exchange({"facts": dict(facts or {})}, _PATIENCE)
        if problem:
            raise DataError(problem, "other_process")

    def connect(self) -> None:
        """Open the connections between all processes over which gradients go."""
        if self._store is None or distributed.is_initialized():
            return
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view")  # of 1x1 convolutions: harmless
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo", store=PrefixStore("group", self._store),
            rank=self.group.rank, world_size=self.group.count, timeout=timedelta(seconds=_PATIENCE))

    def give_folder(self, folder: Path) -> None:
        """Copy the files of a folder from the first process to every machine that does not have them."""
        if not distributed.is_initialized():
            return
        sent: list[Any] = [files_of(folder) if self.group.is_first else None]
        distributed.broadcast_object_list(sent)
        if self.group.is_first_here and files_of(folder) != sent[0]:
            with atomic_folder(folder) as copy:
                for name, content in sent[0].items():
                    (copy / name).write_bytes(content)

    def explain(self, error: Exception) -> Exception:
        """Tell the others what ends this process, or find out why they ended; return what is to be raised here."""
        if self._store is None or isinstance(error, DataError) and error.code == "other_process":
            return error
        if not _is_lost(error):
            reason = str(error) if isinstance(error, (KwsError, OSError)) else f"{type(error).__name__}: {error}"
            with _store_may_be_gone():
                self._exchange({"error": reason}, _FAREWELL)
            return error
        found: Optional[str] = None
        with _store_may_be_gone():
            self._meetings += 1
            found = self._problem(self._reports())
        return DataError(found or f"the connection to another process of this training broke; {_AGAIN}",
                         "other_process")

    def _exchange(self, report: Mapping[str, Any], seconds: float) -> Optional[str]:
        """Give a report and read those of all; return what is wrong with them."""
        if self._store is None:
            return None
        self._meetings += 1
        self._store.set(self._key(self.group.rank), json.dumps({"by": self._name(), **report}, default=str))
        everybody = range(self.group.count)
        self._wait_for([self._key(rank) for rank in everybody], seconds)
        reports = self._reports()
        problem = self._problem(reports)
        if problem is None and len(reports) < self.group.count:
            missing = ", ".join(str(rank) for rank in everybody if rank not in reports)
            problem = f"process {missing} of this training did not answer within {seconds:.0f} s; {_AGAIN}"
        elif problem or "error" in report:  # the store ends with the first process: all are to have read what ends them
            self._store.set(f"{self._key(self.group.rank)}/read", "")
            self._wait_for([f"{self._key(rank)}/read" for rank in everybody], _FAREWELL)
        return problem

    def _reports(self) -> dict[int, dict[str, Any]]:
        """Read the reports of this meeting, by rank, as far as they are there."""
        assert self._store is not None
        return {rank: json.loads(self._store.get(self._key(rank))) for rank in range(self.group.count)
                if self._store.check([self._key(rank)])}

    def _problem(self, reports: Mapping[int, Mapping[str, Any]]) -> Optional[str]:
        for rank, report in reports.items():
            if "error" in report and rank != self.group.rank:
                return f"{report['by']}: {report['error']}"
        for report in reports.values() if 0 in reports else ():
            different = differences(report.get("facts", {}), reports[0].get("facts", {}))
            if different:
                return (f"{report['by']} differs from {reports[0]['by']}: {'; '.join(different)}. Give all machines "
                        "the same configuration, prepared store and versions")
        return None

    def _key(self, rank: int) -> str:
        return f"{self._meetings}/{rank}"

    def _name(self) -> str:
        return f"process {self.group.rank} on {socket.gethostname()}"

    def _wait_for(self, keys: Sequence[str], seconds: float) -> None:
        """Wait until the store has all keys; `Store.wait` would keep Ctrl-C waiting, too."""
        assert self._store is not None
        until = time.monotonic() + seconds
        while not self._store.check(list(keys)) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)


ALONE = Peers(Processes())


@contextmanager
def joined() -> Iterator[Peers]:
    """Find the other processes that torchrun started; an error inside ends all of them, each with its reason.

    Raises:
        ConfigError: if the environment names processes that cannot find each other.
        DataError: "other_process" if another one failed or was lost.
    """
    group = processes()
    if not group.is_joined:
        forget_others()
        yield ALONE
        return
    peers = Peers(group, _open_store(group))
    try:
        yield peers
    except Exception as error:
        reason = peers.explain(error)
        if reason is error:
            raise
        raise reason from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Say which values differ, and how."""
    return [f"{name} is {_short(found.get(name))}, was {_short(expected.get(name))}"
            for name in {**expected, **found} if found.get(name) != expected.get(name)]


def _short(value: Any) -> str:
    text = "nothing" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _open_store(group: Processes) -> Store:
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    if group.count > group.on_this_machine:
        _use_interface_to(address, port)
    try:
        store, _, _ = next(rendezvous("env://", group.rank, group.count, timeout=timedelta(seconds=_PATIENCE)))
    except distributed.DistError:
        raise ConfigError("environment", [f"MASTER_ADDR, MASTER_PORT: {address}:{port} does not answer; expected the "
                                          "first process of this training. Is it running, and reachable from here?"
                                          ]) from None
    return store


def _use_interface_to(address: str, port: str) -> None:
    """Have gloo use the network interface that leads to the first machine.

    It would look up this machine's own name, which on many systems is an address of the loopback interface.
    """
    if os.environ.get(_INTERFACE):
        return
    try:
        family, kind, _, _, target = socket.getaddrinfo(address, int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # nothing is sent
            own = probe.getsockname()[0].partition("%")[0]
    except OSError as error:
        raise ConfigError("environment", [f"MASTER_ADDR: {address} cannot be reached ({error.strerror}); expected the "
                                          "address of the first machine"]) from None
    if ipaddress.ip_address(own).is_loopback:
        raise ConfigError("environment", [f"MASTER_ADDR: {address} is the loopback interface here; expected the "
                                          "address by which the other machines reach the first one"])
    for name, addresses in psutil.net_if_addrs().items():
        if own in (found.address.partition("%")[0] for found in addresses):
            os.environ[_INTERFACE] = name


def files_of(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder, by name; none where there is no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()} \
        if folder.is_dir() else {}


def _is_lost(error: Exception) -> bool:
    """Whether another process went away: few of these errors have a class of their own."""
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(name in str(error) for name in _LOST))


@contextmanager
def _store_may_be_gone() -> Iterator[None]:
    try:
        yield
    except distributed.DistError:
        pass
