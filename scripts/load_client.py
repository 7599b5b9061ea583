"""Ask a service for answers at a given rate, whether it keeps up or not, and measure how long each one takes."""
from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import aiohttp
import numpy as np
from matplotlib.figure import Figure

from kws.audio.decode import read_bytes
from kws.errors import DataError, KwsError
from kws.inference.batch.inputs import list_inputs

OK = "200"
FIGURES = "  requests  answers/s   p50 ms   p95 ms   p99 ms   max ms"  # the head of `Load.figures`
_WARM_UP_SECONDS = 2.0
_MOST_RECORDINGS = 1000


@dataclass(frozen=True)
class Load:
    """Result of one load run.

    Args:
        rate: requests per second that were due, on average.
        due: [N] s after the start, when each request was due.
        latencies: [N] ms from then to its answer, or its failure.
        outcomes: [N] HTTP status as text, or the name of the error; "200" is a success.
    """

    rate: float
    due: np.ndarray
    latencies: np.ndarray
    outcomes: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Describe it in plain values: percentiles of all requests in ms, failures by kind."""
        kinds, counts = np.unique(self.outcomes[self.outcomes != OK], return_counts=True)
        p50, p95, p99, most = np.percentile(self.latencies, [50, 95, 99, 100]).round(2).tolist()
        finished = (self.due + self.latencies / 1000).max()
        return {"rate": self.rate, "requests": len(self.outcomes),
                "answers_per_second": round(len(self.due) / finished, 1), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
                "max_ms": most, "failures": dict(zip(kinds.tolist(), counts.tolist()))}

    def figures(self) -> str:
        """Lay out requests, answers per second and percentiles as a part of a table's row, headed by FIGURES."""
        row = self.summary()
        times = "".join(f"{row[name]:9.1f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
        return f"{row['requests']:10,}{row['answers_per_second']:11.1f}{times}"


def read_recordings(source: Path) -> list[bytes]:
    """Read what is to be sent: a thousand recordings, spread evenly over a folder or manifest, or all of fewer.

    Raises:
        DataError: "no_input" if there are none.
    """
    recordings = list_inputs(source)
    if not recordings.count:
        raise DataError(f"{source}: no rows; expected recordings to send", "no_input")
    every = islice(recordings, 0, None, math.ceil(recordings.count / _MOST_RECORDINGS))
    return [read_bytes(row.location, row.path) for row in every]


def run(url: str, bodies: Sequence[bytes], rate: float, count: int, timeout: float = 10.0, seed: int = 0,
        headers: Optional[Mapping[str, str]] = None, enough: Optional[threading.Event] = None) -> Load:
    """Send requests at random moments (a Poisson process): none waits for the answer of another.

    A request's latency counts from the moment it was due, so a client or a service that falls behind cannot hide it.

    Args:
        url: what to POST to.
        bodies: encoded audio, taken in turn.
        rate: requests per second, on average.
        count: N, requests to measure; those of 2 s before them warm up.
        timeout: s, after which a request has failed.
        seed: of the moments.
        headers: to send along, for example a token.
        enough: ends the run before N requests, once it is set and the warm-up is over.
    Raises:
        KwsError: "no_service" if nobody answers at the url.
    """
    warm_up = round(_WARM_UP_SECONDS * rate)
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=warm_up + count)
    due = np.cumsum(gaps)
    latencies, outcomes = np.empty(len(due)), np.empty(len(due), dtype=object)
    sent = 0

    async def everything() -> None:
        nonlocal sent
        settings = aiohttp.ClientTimeout(total=timeout)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=settings,
                                         headers={"Content-Type": "audio/wav", **(headers or {})}) as session:
            await _check(session, url, bodies[0])
            began = time.perf_counter()

            async def one(index: int) -> None:
                outcomes[index], _ = await _post(session, url, bodies[index % len(bodies)])
                latencies[index] = (time.perf_counter() - began - due[index]) * 1000

            async with asyncio.TaskGroup() as tasks:
                for index, moment in enumerate(due):
                    if enough is not None and enough.is_set() and sent > warm_up:
                        break
                    await asyncio.sleep(max(began + moment - time.perf_counter(), 0.0))
                    tasks.create_task(one(index))
                    sent = index + 1

    asyncio.run(everything())
    measured = slice(warm_up, sent)
    return Load(rate, due[measured] - due[warm_up], latencies[measured], outcomes[measured].astype(str))


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[str, bytes]:
    try:
        async with session.post(url, data=body) as response:
            return str(response.status), await response.read()
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        return type(error).__name__, str(error).encode()


async def _check(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    outcome, answer = await _post(session, url, body)
    if outcome != OK:
        told = answer.decode(errors="replace").strip()[:200]
        raise KwsError(f"{url}: answers {outcome} to the first recording; expected {OK}: {told}", "no_service")


def load_figure(loads: Sequence[Load]) -> Figure:
    """Draw the response times of a service at several rates: their distribution, and how they went on."""
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    spread, course = figure.subplots(1, 2)
    for load in loads:
        name = f"{load.rate:g}/s"
        spread.plot(np.sort(load.latencies), np.linspace(0.0, 1.0, len(load.latencies)), label=name)
        course.plot(load.due, load.latencies, ".", markersize=2, label=name)
    spread.set(title="distribution", xlabel="ms", ylabel="share of requests", xscale="log")
    course.set(title="course", xlabel="s", ylabel="ms", yscale="log")
    for axes in (spread, course):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
