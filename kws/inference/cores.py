"""How many processor cores this process may use."""
from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Iterator

_MEMBERSHIP, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_cores(membership: Path = _MEMBERSHIP, mount: Path = _MOUNT) -> int:
    """Count the processor cores that this process may use: 1 or more.

    A container or a batch system allows fewer than the machine has, by affinity or by a quota of processor time;
    part of a core counts as a whole one.

    Args:
        membership: where Linux says which control groups the process is in.
        mount: where it shows the limits of control groups, of version 1 or 2.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(membership, mount)])))


def _quotas(membership: Path, mount: Path) -> Iterator[float]:
    """Yield the limits, in cores, of the control groups of this process and of those that hold them."""
    try:
        groups = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, group in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the group is named as the host sees it or as the container does; the mount's root is its own.
        for name in (group, *map(str, Path(group).parents)):
            folder = mount / ("cpu" if controllers else "") / name.lstrip("/")
            try:
                if controllers:
                    quota, period = ((folder / f"cpu.cfs_{file}_us").read_text() for file in ("quota", "period"))
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if float(quota) > 0:  # version 1 writes -1, version 2 the word max, where there is no limit
                    yield float(quota) / float(period)
            except (OSError, ValueError):
                continue
