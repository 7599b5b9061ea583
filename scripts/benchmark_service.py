#!/usr/bin/env python
"""Measure the service against FastAPI with a transformers pipeline: the same model, recordings, machine and client.

usage: python scripts/benchmark_service.py models/kws recordings/ [--rates 1 20 50 100 200 300] [--requests 10000]

Packs the model, starts one service after the other on its usual ports, and tells where the time of a request goes.
No rate is asked for longer than ten minutes, and a service whose 95th percentile passes a second no faster.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence

import psutil
import requests
from load_client import FIGURES, read_recordings, run

from kws.commands.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.errors import KwsError

ROOT = Path(__file__).resolve().parents[1]
TORCHSERVE, PEER = "kws, TorchServe", "FastAPI, transformers.pipeline"
COMMANDS = {TORCHSERVE: [str(ROOT / "torchserve/serve.sh")],
            PEER: [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "scripts"), "--port", "8090",
                   "--log-level", "warning", "peer_service:app"]}
URLS = {TORCHSERVE: "http://127.0.0.1:8080/predictions/kws", PEER: "http://127.0.0.1:8090/predictions/kws"}
METRICS = "http://127.0.0.1:8082/metrics"
_TOO_SLOW_MS, _MAX_SECONDS = 1000.0, 600.0


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("model", type=Path, help="exported model folder")
    parser.add_argument("recordings", type=Path, help="folder, manifest or file; 1,000 of them are sent, in turn")
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 20, 50, 100, 200, 300, 500],
                        help="requests per second (default: 1 20 50 100 200 300 500)")
    parser.add_argument("--requests", type=int, default=10_000, help="at each rate, at most (default: 10000)")
    add_verbosity(parser)
    return parser.parse_args(argv)


@contextmanager
def started(name: str, model: Path, wav: bytes) -> Iterator[psutil.Process]:
    """Run a service until the block ends; it answers when the block begins."""
    environment = {**os.environ, "KWS_MODEL": str(model), "DRAIN_SECONDS": "0",
                   "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = psutil.Popen(COMMANDS[name], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                if requests.post(URLS[name], data=wav, headers={"Content-Type": "audio/wav"}, timeout=30).ok:
                    break
            except requests.ConnectionError:
                pass
            if process.poll() is not None:
                raise KwsError(f"{name}: ended with {process.returncode}; `{' '.join(COMMANDS[name])}` says why",
                               "no_service")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def memory(process: psutil.Process) -> float:
    """MB of a service's processes; what they share counts once."""
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True))) / 1e6


def metric(name: str) -> float:
    """Sum a metric of ours over its labels."""
    lines = requests.get(METRICS, timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ")))


def print_parts(wavs: Sequence[bytes]) -> None:
    """Ask for one answer after the other and print where the time of one request goes, in ms on average."""
    names = ("ts_inference_latency_microseconds", "ts_queue_latency_microseconds", "kws_handler_seconds_sum")
    before = [metric(name) for name in names]
    count = 500
    with requests.Session() as session:
        began = time.perf_counter()
        for index in range(count):
            session.post(URLS[TORCHSERVE], data=wavs[index % len(wavs)], timeout=30)
        whole = (time.perf_counter() - began) * 1000 / count
    time.sleep(1)  # the metrics travel through the worker's output
    inference, queue, handler = (metric(name) - old for name, old in zip(names, before))
    inference, queue, handler = inference / 1000 / count, queue / 1000 / count, handler * 1000 / count
    print(f"one request after the other, {count}: {whole:.2f} ms each, of that")
    for part, value in (("client, HTTP, JVM", whole - inference), ("waiting for a batch", queue),
                        ("to the worker and back", inference - queue - handler),
                        ("handler: decode, model, JSON", handler)):
        print(f"  {part:<30}{value:6.2f}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure both, print a table."""
    args = parse_args(argv)
    start_logging(args.verbose)
    wavs = read_recordings(args.recordings)
    subprocess.run([sys.executable, ROOT / "scripts/archive.py", args.model], check=True)
    for name, url in URLS.items():
        with started(name, args.model.resolve(), wavs[0]) as process:
            print(f"\n{name}\n  rate/s{FIGURES}  MB   failures")
            for rate in args.rates:
                load = run(url, wavs, rate, min(args.requests, round(_MAX_SECONDS * rate)))
                row = load.summary()
                print(f"{rate:8.0f}{load.figures()}{memory(process):6.0f}  {row['failures'] or 'none'}", flush=True)
                if row["p95_ms"] > _TOO_SLOW_MS:
                    break
            if name == TORCHSERVE:
                print_parts(wavs)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
