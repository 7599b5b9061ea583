#!/usr/bin/env python
"""Measure what `kws serve-wyoming` costs on one core, with several numbers of streams at real speed.

usage: python scripts/benchmark_wyoming.py [--model DIR] [--streams 1 50 200] [--seconds 20] [--sound talk.wav]

Each stream is a connection that sends a recording over and over, in chunks of 64 ms. Latency is from the last sample
that a detection needs to its event at the client, who runs beside the service. The sample
is full of keywords, so that the larger network often listens; talk of yours shows what the service costs all day.
"""
from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

import numpy as np
import psutil
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.ping import Ping

from kws.audio.blocks import recording_blocks
from kws.commands.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.inference.listening import StreamModel, listen
from kws.model.folder import SHIPPED, STREAM_FILE

_SAMPLE = Path(__file__).resolve().parents[1] / "docs/samples/five-words.flac"
_CHUNK = 1024  # samples


class Measured(NamedTuple):
    """Of one number of streams.

    Args:
        factor: time of the processor by time of the sound, a stream.
        latencies: [N] ms.
        megabytes: that a stream takes.
        lost: streams of which not every word was told as `kws listen` does.
        events: N.
    """

    factor: float
    latencies: np.ndarray
    megabytes: float
    lost: int
    events: int


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="exported folder (default: the shipped one)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 50, 200], help="default: 1 50 200")
    parser.add_argument("--seconds", type=float, default=20.0, help="of sound (default: 20)")
    parser.add_argument("--sound", type=Path, default=_SAMPLE, metavar="PATH", help="recording (default: the sample)")
    add_verbosity(parser)
    return parser.parse_args(argv)


@contextmanager
def service(model: Path) -> Iterator[tuple[psutil.Process, int]]:
    """Run the service on one core: its process and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "kws", "serve-wyoming", "--model", str(model), "--max-connections",
                           "1000", "--uri", f"tcp://127.0.0.1:{port}"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            psutil.Process(process.pid).cpu_affinity([max(os.sched_getaffinity(0))])
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()


async def speak(port: int, sound: bytes, rate: int) -> list[tuple[str, float]]:
    """Send a sound at its speed; return the words that were found, and the latency of each in ms."""
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await asyncio.sleep(random.random())
        await client.write_event(AudioStart(rate, 2, 1).event())
        sending = asyncio.create_task(_send(client, sound, rate, began := time.monotonic()))
        found: list[tuple[str, float]] = []
        while (event := await client.read_event()) is not None and event.type == "detection":
            found.append((event.data["name"], 1000 * (time.monotonic() - began) - event.data["timestamp"]))
        await sending
    return found


async def _send(client: AsyncTcpClient, sound: bytes, rate: int, began: float) -> None:
    for start in range(0, len(sound), 2 * _CHUNK):
        chunk = sound[start:start + 2 * _CHUNK]
        await asyncio.sleep(began + (start + len(chunk)) / 2 / rate - time.monotonic())  # once it has been recorded
        await client.write_event(AudioChunk(rate, 2, 1, chunk).event())
    for event in (AudioStop().event(), Ping().event()):  # what follows the last detection
        await client.write_event(event)


async def measure(process: psutil.Process, port: int, count: int, sound: np.ndarray, model: StreamModel) -> Measured:
    """Let so many streams speak at once."""
    expected = [detection.word for detection in listen(model, [sound])]
    memory, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
    speaking = asyncio.gather(*(speak(port, sound.tobytes(), model.sample_rate) for _ in range(count)))
    await asyncio.sleep(len(sound) / model.sample_rate / 2)
    memory = process.memory_info().rss - memory
    found = await speaking
    cpu = sum(process.cpu_times()[:2]) - cpu
    return Measured(
        factor=cpu / count / len(sound) * model.sample_rate,
        latencies=np.array([late for words in found for _, late in words]),
        megabytes=memory / 1e6 / count,
        lost=sum([word for word, _ in words] != expected for words in found),
        events=sum(map(len, found)))


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, and print a table."""
    args = parse_args(argv)
    start_logging(args.verbose)
    model = StreamModel(args.model / STREAM_FILE)
    recording = np.concatenate(list(recording_blocks(args.sound, model.sample_rate)))
    sound = (np.resize(recording, round(args.seconds * model.sample_rate)) * 32767).astype(np.int16)
    print(f"{'streams':>8}{'real-time factor':>18}{'core':>8}{'p50 ms':>8}{'p95 ms':>8}{'MB each':>9}{'events':>8}"
          f"{'wrong streams':>14}")
    for count in args.streams:
        with service(args.model) as (process, port):
            asyncio.run(measure(process, port, 1, sound[:model.sample_rate], model))  # everything is loaded then
            result = asyncio.run(measure(process, port, count, sound, model))
        late = np.percentile(result.latencies, [50, 95]) if len(result.latencies) else (np.nan, np.nan)
        print(f"{count:>8}{result.factor:>18.5f}{result.factor * count:>8.1%}{late[0]:>8.0f}{late[1]:>8.0f}"
              f"{result.megabytes:>9.2f}{result.events:>8}{result.lost:>14}", flush=True)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
