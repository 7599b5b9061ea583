"""Label recordings on many machines with Ray Data: each actor holds one session and writes whole parts of the table.

Ray hands out the parts, starts actors where there are cores, and repeats what was lost with a node; see
https://docs.ray.io/en/latest/data/batch_inference.html
"""
from __future__ import annotations

import logging
import os
import pickle
import socket
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from tqdm import tqdm

import kws
from kws.errors import DataError, KwsError
from kws.inference.batch.inputs import Inputs
from kws.inference.batch.parts import Part, PartsFolder
from kws.inference.batch.summary import Summary
from kws.inference.cores import available_cores
from kws.inference.spotter import KeywordSpotter
from kws.model.labels import LabelSet

_PATIENCE_SECONDS = 10.0
LOCAL = "local"  # the address of a cluster that is this machine, for this run
# Nothing is sent to Ray's makers; what matters is told by this program (Ray Data's own actors make Ray log an error).
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal",
             "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_NUM_REDIS_GET_RETRIES": "2"}


class PartLabeller:
    """A process somewhere in the cluster that labels parts; arguments as for `label_parts`."""

    def __init__(self, folder: PartsFolder, runtime: Optional[str], batch_size: int) -> None:
        self._folder, self._runtime, self._batch_size = folder, runtime, batch_size

    @cached_property
    def _spotter(self) -> KeywordSpotter:
        """Loaded with the first part: an error of that is told as one of the part, not as an actor's death."""
        with tempfile.TemporaryDirectory(prefix="kws-") as home:  # Ray kills actors, who then remove nothing
            return KeywordSpotter(self._folder.unpack_model(Path(home)), runtime=self._runtime, threads=1)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Label the part that a row of Ray Data describes."""
        part = Part(**{name: int(value) for name, value in row.items()})
        name, summary = self._folder.label(part, self._spotter, self._batch_size)
        return {"number": part.number, "name": name, "summary": pickle.dumps(summary)}


@contextmanager
def cluster(address: str, workers: Optional[int]) -> Iterator[int]:
    """Be connected to a cluster; yield how many actors to start.

    Args:
        address: HOST:PORT, "auto" on one of its nodes, or LOCAL.
        workers: actors; None: one for each core.
    Raises:
        DataError: "no_ray" without the package; "no_cluster" if there is none, or one of another Ray or Python.
    """
    _check_answers(address)
    ray = _import_ray()
    local = {"num_cpus": workers or available_cores(), "include_dashboard": False} if address == LOCAL else {}
    try:
        # The nodes run this very package: its modules travel.
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False,
                 runtime_env={"py_modules": [str(Path(kws.__file__).parent)]}, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DataError(f"--ray {address}: no cluster that this program can use: {_one_line(error)}. `ray start "
                        "--head` starts one; all nodes need the same releases of Python and Ray",
                        "no_cluster") from error
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def label_parts(inputs: Inputs, folder: PartsFolder, model: Path, runtime: Optional[str], labels: LabelSet,
                batch_size: int, workers: int, resume: bool) -> tuple[list[str], Summary]:
    """Label every input and write the parts; see `cluster`.

    Args:
        inputs: what to label.
        folder: where the parts go.
        model: folder or ONNX file, which travels to the nodes.
        runtime: as for `KeywordSpotter`.
        labels: of the model.
        batch_size: recordings that an actor labels at a time.
        workers: actors.
        resume: whether to keep the parts of an earlier run.
    Returns:
        the names of the parts in the order of the table, and what came out.
    Raises:
        DataError: those of PartsFolder; "lost_work" if Ray gave up.
    """
    parts = folder.begin(inputs, model, resume)
    summary, names, began = Summary(labels), [""] * len(parts), time.perf_counter()
    with tqdm(total=inputs.count, unit="file", disable=None) as bar:
        for done in _labelled(parts, (folder, runtime, batch_size), workers) if parts else ():
            one = pickle.loads(done["summary"])
            names[int(done["number"])] = done["name"]
            summary.merge(one)
            bar.update(one.rows)
    folder.finish(names)
    summary.rows_per_second = summary.rows / (time.perf_counter() - began)
    return names, summary


def _labelled(parts: list[Part], actor: tuple[Any, ...], workers: int) -> Iterator[Mapping[str, Any]]:
    """Yield the results of parts as they come; `actor`: the arguments of PartLabeller."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False
    work = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts))
    labelled = work.map(PartLabeller, fn_constructor_args=actor, num_cpus=1,  # type: ignore[arg-type]
                        compute=ActorPoolStrategy(min_size=1, max_size=min(workers, len(parts))))
    try:
        yield from labelled.iter_rows()
    except ray.exceptions.RayError as error:
        cause = _cause(error)
        if isinstance(cause, (KwsError, OSError)):
            raise cause from None
        raise DataError(f"the cluster could not finish: {_one_line(cause)}. What is done is kept; the same command "
                        "with --resume goes on", "lost_work") from error


def _cause(error: BaseException) -> BaseException:
    """Return what a task raised, beneath what Ray wraps around it (its class is also that of the cause)."""
    inner = getattr(error, "cause", None) or error.__cause__
    is_ours = isinstance(error, (KwsError, OSError)) and not hasattr(error, "cause")
    return error if inner is None or is_ours else _cause(inner)


def _check_answers(address: str) -> None:
    """Ray itself would wait for minutes; raises DataError "no_cluster"."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), _PATIENCE_SECONDS).close()
        except OSError as error:
            raise DataError(f"--ray {address}: nothing answers there ({error.strerror or error}); `ray start --head` "
                            "starts a cluster and prints its address", "no_cluster") from None


def _import_ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise DataError("--ray needs the package ray, which is not installed; pip install 'kws[ray]' brings it",
                        "no_ray") from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
