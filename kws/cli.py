"""What every command line of the project shares: verbosity, logging, one-line errors and exit codes."""
from __future__ import annotations

import argparse
import io
import logging
import math
import os
import sys
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence

from kws.errors import KwsError

EXIT_OK, EXIT_BUG, EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
_MEMBERSHIP, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

logger = logging.getLogger("kws")


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add -v (progress in words) and -vv (debugging, with tracebacks)."""
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv adds tracebacks")


def add_config(parser: argparse.ArgumentParser, default: Optional[str] = None) -> None:
    """Add the configuration file, as --config where there is a default, and its overrides."""
    if default is None:
        parser.add_argument("config", type=Path, help="YAML file, for example configs/kws.yaml")
    else:
        parser.add_argument("--config", type=Path, default=Path(default),
                            help="where the prepared store is (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="override a key, for example training.epochs=3; may be repeated")


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


def start_logging(verbose: int, log_file: Optional[Path] = None) -> None:
    """Send log lines to stderr (warnings; -v: information; -vv: everything) and, all of them, to a file."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(level)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(lambda record: not hasattr(record, "is_printed") or bool(verbose >= 2 and record.exc_info))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    for handler in handlers:
        logger.addHandler(handler)
    logging.raiseExceptions = False  # a log file on a full disk is no reason for a traceback
    logger.setLevel(logging.DEBUG if verbose >= 2 else logging.INFO)
    logger.propagate = False


def guard(main: Callable[[Optional[Sequence[str]]], int], argv: Optional[Sequence[str]] = None) -> int:
    """Run a command; turn its faults into one line on stderr and an exit code.

    Returns:
        what `main` returned; 2 for bad input (KwsError, OSError), 130 after Ctrl-C, 1 for a bug of ours.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files and keywords may not fit the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main(argv)
    except KwsError as error:
        return _report(str(error), EXIT_BAD_INPUT, error)
    except KeyboardInterrupt:
        return _report("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"{where}{error.strerror or error}", EXIT_BAD_INPUT, error)
    except Exception as error:  # the border of the program: nothing may leave it as a traceback
        return _report(f"internal error: {type(error).__name__}: {error} (-vv shows where)", EXIT_BUG, error)


def _report(message: str, code: int, error: Optional[Exception] = None) -> int:
    """Print a fault as one line; put it into the log file, with its traceback, if there is one."""
    print(f"error: {message}", file=sys.stderr)
    if logger.handlers:
        logger.error(message, exc_info=error, extra={"is_printed": True})
    return code
