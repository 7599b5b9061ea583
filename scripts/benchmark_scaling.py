#!/usr/bin/env python
"""Measure one copy and two copies of the service behind HAProxy, then replace both under load.

usage: python scripts/benchmark_scaling.py recordings/ [--rates 50 100 200 400] [--requests 4000] [--rolling-rate 50]

Runs the image kws-serve:v1 (`make mar serve-image`) on the network of this machine, and torchserve/haproxy.cfg.
Exit code 3 if a request failed while the copies were replaced.
"""
from __future__ import annotations

import argparse
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence

import requests
from load_client import FIGURES, Load, read_recordings, run

from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED, add_verbosity, guard, start_logging
from kws.errors import KwsError

CONFIGURATION = Path(__file__).resolve().parents[1] / "torchserve/haproxy.cfg"
IMAGE = "kws-serve:v1"
FIRST_PORTS = {"kws-1": 8080, "kws-2": 9080}  # as the configuration has them
ADDRESSES = ("TS_INFERENCE_ADDRESS", "TS_MANAGEMENT_ADDRESS", "TS_METRICS_ADDRESS", "READINESS_ADDRESS")
URL, STATISTICS = "http://127.0.0.1:8000/predictions/kws", "http://127.0.0.1:8404/metrics"
_START_SECONDS = 300.0  # a busy machine takes its time; half a minute otherwise


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("recordings", type=Path, help="folder, manifest or file; 1,000 of them are sent, in turn")
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 100, 200, 400],
                        help="requests per second (default: 50 100 200 400)")
    parser.add_argument("--requests", type=int, default=4000, help="at each rate (default: 4000)")
    parser.add_argument("--rolling-rate", type=float, default=50.0,
                        help="requests per second while the copies are replaced (default: 50)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def docker(*arguments: str) -> None:
    """Run a docker command.

    Raises:
        KwsError: "no_service" if it fails.
    """
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise KwsError(f"docker {' '.join(arguments)}: {done.stderr.strip()[-300:]}", "no_service")


def start(name: str) -> None:
    """Run a copy on its ports."""
    ports = range(FIRST_PORTS[name], FIRST_PORTS[name] + 6)
    settings = {**{address: f"http://127.0.0.1:{port}" for address, port in zip(ADDRESSES, ports)},
                "TS_GRPC_INFERENCE_PORT": str(ports[4]), "TS_GRPC_MANAGEMENT_PORT": str(ports[5])}
    options = [part for key, value in settings.items() for part in ("--env", f"{key}={value}")]
    docker("run", "--detach", "--name", name, "--network", "host", *options, IMAGE)


def stop(name: str) -> None:
    """End a copy in good order and remove it."""
    docker("stop", "--time", "30", name)
    docker("rm", name)


def wait_until_up(name: str, count: int) -> None:
    """Wait until a copy is ready, and the proxy sends requests to so many of them.

    Raises:
        KwsError: "no_service" if that takes longer than five minutes.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            if requests.get(f"http://127.0.0.1:{FIRST_PORTS[name] + 3}/ping", timeout=10).ok and copies_up() == count:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise KwsError(f"{name}: not ready after {_START_SECONDS:.0f} s; `docker logs {name}` says more", "no_service")


def copies_up() -> int:
    """Count the copies to which the proxy sends requests; it believes in all of them when it starts."""
    metrics = requests.get(STATISTICS, timeout=10).text
    found = re.search(r'^haproxy_backend_active_servers{proxy="kws"} (\d+)', metrics, re.M)
    return int(found[1]) if found else 0


@contextmanager
def proxy() -> Iterator[None]:
    """Run HAProxy, and remove what is left of the copies in the end."""
    process = subprocess.Popen(["haproxy", "-f", CONFIGURATION], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        subprocess.run(["docker", "rm", "--force", *FIRST_PORTS], capture_output=True)


def print_row(name: str, load: Load) -> None:
    """Print a row of the table."""
    print(f"{name:<18}{load.rate:7.0f}{load.figures()}  {load.summary()['failures'] or 'none'}", flush=True)


def replace_under_load(bodies: Sequence[bytes], rate: float) -> Load:
    """Replace every copy by a new one while requests arrive.

    Raises:
        KwsError: "no_service" if a copy does not come back.
    """
    replaced, most = threading.Event(), round(rate * 3 * _START_SECONDS)  # longer than both take
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run, URL, bodies, rate, most, enough=replaced)
        time.sleep(5)  # it has warmed up by then
        try:
            for name in FIRST_PORTS:
                stop(name)
                start(name)
                wait_until_up(name, len(FIRST_PORTS))
            time.sleep(5)
        finally:
            replaced.set()
        return load.result()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print a table."""
    args = parse_args(argv)
    start_logging(args.verbose)
    bodies = read_recordings(args.recordings)
    with proxy():
        print(f"copies             rate/s{FIGURES}  failures")
        for count, name in enumerate(FIRST_PORTS, start=1):
            start(name)
            wait_until_up(name, count)
            for rate in args.rates:
                print_row(str(count), run(URL, bodies, rate, args.requests))
        rolling = replace_under_load(bodies, args.rolling_rate)
        print_row("2, both replaced", rolling)
    return EXIT_SOME_FAILED if rolling.summary()["failures"] else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
