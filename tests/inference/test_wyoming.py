"""The service for Home Assistant: real clients, real sound, real trouble."""
from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.server import AsyncTcpServer
from wyoming.wake import Detect

import kws
from kws.commands.cli import EXIT_INTERRUPTED
from kws.inference.listening import Listener, StreamModel, listen, listen_to, step_together
from kws.inference.wyoming import together
from kws.inference.wyoming.connection import Connection
from kws.inference.wyoming.service import Service
from kws.model.folder import BLOCK_ROWS, SHIPPED, STREAM_FILE

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "docs/samples").glob("*.flac"))
FIVE_WORDS = ROOT / "docs/samples/five-words.flac"
RATE, CHUNK = 16_000, 1024  # samples: what Home Assistant and its satellites send
SERVE = [sys.executable, "-m", "kws", "serve-wyoming", "-v", "--model", str(SHIPPED), "--uri"]


@pytest.fixture(scope="module")
def model() -> StreamModel:
    return StreamModel(SHIPPED / STREAM_FILE)


def sound_of(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


def expected(model: StreamModel, path: Path) -> list[tuple[str, int]]:
    """What `kws listen` finds: words, milliseconds."""
    return [(found.word, round(1000 * found.time_seconds)) for found in listen_to(model, path)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The command as its own process, with its log."""

    def __init__(self, log: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [*SERVE, f"tcp://127.0.0.1:{self.port}", *options], stdout=subprocess.PIPE, stderr=file, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
        self.first_line = self.process.stdout.readline()

    def client(self) -> AsyncTcpClient:
        return AsyncTcpClient("127.0.0.1", self.port, read_timeout=30)

    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    found = Server(tmp_path_factory.mktemp("server") / "log")
    yield found
    found.end()


async def answers(client: AsyncTcpClient, *events: Event) -> list[Event]:
    """Send events, and read until not-detected, an error, or the end; or until a pong, which is asked for."""
    for event in (*events, Ping().event()):
        await client.write_event(event)
    found = []
    while (event := await client.read_event()) is not None and event.type != "pong":
        found.append(event)
    return found


def chunks_of(sound: np.ndarray, rate: int = RATE, size: int = CHUNK) -> list[Event]:
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    return [AudioChunk(rate, sound.itemsize, channels, sound[start:start + size].tobytes()).event()
            for start in range(0, len(sound), size)]


def whole(sound: np.ndarray) -> list[Event]:
    return [AudioStart(RATE, 2, 1).event(), *chunks_of(sound), AudioStop().event()]


def words_of(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.data["name"], event.data["timestamp"]) for event in events if event.type == "detection"]


def ask(server: Server, *events: Event) -> list[Event]:
    async def run() -> list[Event]:
        async with server.client() as client:
            return await answers(client, *events)
    return asyncio.run(run())


def test_it_says_what_it_knows(server: Server):
    answer, = ask(server, Describe().event())
    program, = Info.from_event(answer).wake
    assert [model.name for model in program.models] == ["down", "go", "left", "no", "right", "stop", "up", "yes"]
    assert all(model.installed and model.languages == ["en"] and model.phrase == model.name for model in program.models)
    assert program.version == kws.__version__ and program.installed
    assert server.first_line.split()[2:] == [model.name for model in program.models]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_files_are_heard_as_kws_listen_hears_them(server: Server, model: StreamModel, path: Path):
    events = ask(server, *whole(sound_of(path)))
    assert words_of(events) == expected(model, path)
    assert [event.type for event in events if event.type != "detection"] == ["not-detected"] * (not words_of(events))


def test_only_the_names_that_were_asked_for(server: Server, model: StreamModel):
    events = ask(server, Detect(["left", "no"]).event(), *whole(sound_of(FIVE_WORDS)))
    assert words_of(events) == [found for found in expected(model, FIVE_WORDS) if found[0] == "left"] != []
    events = ask(server, Detect(["no"]).event(), *whole(sound_of(FIVE_WORDS)))
    assert [event.type for event in events] == ["not-detected"]


def test_a_connection_hears_one_sound_after_another(server: Server, model: StreamModel):
    """As a satellite does: it starts anew after each command, without an end of the sound before."""
    sound, found = sound_of(FIVE_WORDS), expected(model, FIVE_WORDS)
    events = ask(server, AudioStart(RATE, 2, 1).event(), *chunks_of(sound[:40_000]), *whole(sound), *whole(sound))
    assert words_of(events) == [found[0], *found, *found]


def test_the_log_tells_of_sound_and_not_of_questions(server: Server, model: StreamModel):
    """Home Assistant asks twice a minute whether the service is there."""
    before = len(server.log.read_text())
    ask(server, Describe().event())
    assert server.log.read_text()[before:] == ""
    ask(server, *whole(sound_of(FIVE_WORDS)))
    lines = [line.split(": ", 1)[1] for line in server.log.read_text()[before:].splitlines()]
    assert lines[0] == "listening"
    assert [line.split(",")[0] for line in lines[1:]] == [word for word, _ in expected(model, FIVE_WORDS)]


def test_a_sound_needs_no_start(server: Server, model: StreamModel):
    """As wyoming-satellite sends it, with nanoseconds as timestamps: `detect`, and chunks from then on."""
    began = 74_055_510_341_592
    chunks = chunks_of(sound_of(FIVE_WORDS))
    for number, event in enumerate(chunks):
        event.data["timestamp"] = began + 64_000_000 * number
    found = words_of(ask(server, Detect(["left"]).event(), *chunks, AudioStop().event(), *chunks))
    known, = (time for word, time in expected(model, FIVE_WORDS) if word == "left")
    assert [word for word, _ in found] == ["left", "left"]
    assert [(time - began) / 1e6 for _, time in found] == pytest.approx([known, known], abs=64)


@pytest.mark.parametrize("after, later", [(0, [0, 1_000, 1_000, 1_000]), (1, [0, 0, 1_000, 1_000])])
def test_times_are_those_of_the_client(server: Server, model: StreamModel, after: int, later: list[int]):
    """A second is missing before the chunk that holds the moment of the second word, or after it."""
    events, found = whole(sound_of(FIVE_WORDS)), expected(model, FIVE_WORDS)
    chunk = found[1][1] // 64 + after
    for number, event in enumerate(events[1:-1]):
        event.data["timestamp"] = 5_000 + 64 * number + 1_000 * (number >= chunk)
    assert words_of(ask(server, *events)) == [(word, time + 5_000 + more) for (word, time), more in zip(found, later)]


def test_a_clock_may_run_at_a_speed_of_its_own(server: Server, model: StreamModel):
    """As that of Home Assistant 2024.3 does, which sends 10 ms at a time and counts 5."""
    events = [AudioStart(RATE, 2, 1).event(), *chunks_of(sound_of(FIVE_WORDS), size=160), AudioStop().event()]
    for number, event in enumerate(events[1:-1]):
        event.data["timestamp"] = 5 * number
    assert [time for _, time in words_of(ask(server, *events))] == pytest.approx(
        [time / 2 for _, time in expected(model, FIVE_WORDS)], abs=5)


def packed(sound: np.ndarray, width: int) -> tuple[bytes, np.ndarray]:
    """[T] in -1..1 -> samples of so many bytes, and what these are, [T]."""
    if width == 1:
        integers = (sound * 127 + 128).round().astype(np.uint8)
        return integers.tobytes(), (integers - 128.0) / 128
    integers = (sound * (2 ** (8 * width - 1) - 1)).astype("<i4")
    found = integers.view(np.uint8).reshape(*integers.shape, 4)[..., :width].tobytes()
    return found, integers / 2 ** (8 * width - 1)


@pytest.mark.parametrize("rate, width, channels", [(8_000, 1, 1), (16_000, 4, 1), (44_100, 3, 2), (48_000, 2, 2),
                                                   (192_000, 2, 5), (192_000, 1, 5), (22_050, 3, 1)])
def test_sound_of_every_format_is_heard(server: Server, model: StreamModel, rate: int, width: int, channels: int):
    sound = soxr.resample(sound_of(FIVE_WORDS) / 32768, RATE, rate).clip(-1, 1)
    content, samples = packed(np.stack([sound] * channels, axis=1), width)
    size = rate * width * channels // 8 + 1  # an eighth of a second, and part of a sample
    events = [AudioChunk(rate, width, channels, content[start:start + size]).event()
              for start in range(0, len(content), size)]
    found = words_of(ask(server, AudioStart(rate, width, channels).event(), *events, AudioStop().event()))
    known = [(item.word, round(1000 * item.time_seconds))
             for item in listen(model, [soxr.resample(samples[:, 0], rate, RATE).astype(np.float32)])]
    assert [word for word, _ in found] == [word for word, _ in known] and len(known) >= 2
    assert [time for _, time in found] == pytest.approx([time for _, time in known], abs=25)


def test_a_chunk_of_another_format_than_was_said_counts(server: Server, model: StreamModel):
    events = ask(server, AudioStart(48_000, 2, 2).event(), *chunks_of(sound_of(FIVE_WORDS)), AudioStop().event())
    assert words_of(events) == expected(model, FIVE_WORDS)


def header(**fields) -> bytes:
    return json.dumps(fields).encode() + b"\n"


START = header(type="audio-start", data={"rate": RATE, "width": 2, "channels": 1})


def chunk(**fields) -> bytes:
    data = {"rate": RATE, "width": 2, "channels": 1, **fields}
    return START + header(type="audio-chunk", data=data, payload_length=2) + b"\0\0"


@pytest.mark.parametrize("sent, code, said", [
    (b"GET / HTTP/1.1\r\nHost: kws\r\n\r\n", "bad_event", "no JSON"),
    (b"\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03\n", "bad_event", "no JSON"),
    (b"[]\n", "bad_event", "expected a JSON object"), (b"\n", "bad_event", "no JSON"),
    (b"[" * 50_000 + b"\n", "bad_event", "no JSON"), (b"x" * 200_000, "too_large", "65,536"),
    (header(kind="describe"), "bad_event", "type None"), (header(type="describe", data=[1]), "bad_event", "data [1]"),
    (header(type="describe", data_length="9"), "bad_event", "data_length is '9'"),
    (header(type="describe", payload_length=-1), "bad_event", "payload_length is -1"),
    (header(type="describe", payload_length=1e3), "bad_event", "payload_length is 1000.0"),
    (header(type="detect", data_length=3) + b"{]}", "bad_event", "data of detect"),
    (header(type="audio-chunk", payload_length=100 * 2**20) + bytes(2**20), "too_large", "104,857,600"),
    (header(type="detect", data_length=10**15), "too_large", "65,536"),
    (header(type="describe", version="2.0.0"), "other_version", "expected 1.x"),
    (header(type="describe", version=7), "other_version", "version 7"),
    (header(type="detect", data={"names": ["hey computer"]}), "unknown_name", "this model knows down go"),
    (header(type="detect", data={"names": "go"}), "unknown_name", "'go'"),
    (header(type="detect", data={"names": [["go"]]}), "unknown_name", "found names"),
    (header(type="audio-chunk", data={"rate": RATE}), "unsupported_audio", "width is None"),
    (header(type="audio-start", data={"rate": RATE, "width": 2}), "unsupported_audio", "channels is None"),
    (chunk(width=8), "unsupported_audio", "width is 8; expected 1 to 4 bytes"),
    (chunk(channels=0), "unsupported_audio", "channels is 0; expected 1 to 64"),
    (chunk(rate=10**9), "unsupported_audio", "rate is 1000000000; expected 1,000 to 768,000"),
    (chunk(rate=True), "unsupported_audio", "rate is True"), (chunk(rate=None), "unsupported_audio", "rate is None"),
    (chunk(timestamp="noon"), "bad_event", "timestamp is 'noon'"),
    (chunk(timestamp=float("nan")), "bad_event", "timestamp is nan"),
    (chunk(timestamp=10**400), "bad_event", "timestamp is 1000"),
])
def test_what_cannot_be_answered_is_told_and_ends_the_connection(server: Server, sent: bytes, code: str, said: str):
    before = server.memory()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(sent)
        answer = client.makefile("rb").read()
    head, _, data = answer.partition(b"\n")
    error = json.loads(data)
    assert json.loads(head)["type"] == "error" and error["code"] == code and said in error["text"]
    assert error["text"] in server.log.read_text() and "Traceback" not in server.log.read_text()
    assert server.memory() < before + 20 * 2**20
    assert len(ask(server, Describe().event())) == 1, "others are served"


@pytest.mark.parametrize("sent", [b"", b'{"type": "descr', header(type="detect", data_length=20) + b'{"names',
                                  header(type="audio-chunk", payload_length=2048) + bytes(99), START,
                                  chunk() + header(type="audio-chunk", payload_length=20)])
def test_who_breaks_off_harms_nobody(server: Server, sent: bytes):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(sent)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(sent)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
    assert len(ask(server, Describe().event())) == 1
    assert "Traceback" not in server.log.read_text()


def test_unknown_events_are_left_out(server: Server):
    events = ask(server, Event("run-satellite"), Event("describe", {"context": 1}, b"payload"))
    assert [event.type for event in events] == ["info"]


async def speak(server: Server, sound: np.ndarray, speed: float) -> list[tuple[str, int]]:
    """Send a sound at so many times its speed, and return what was found."""
    async with server.client() as client:
        await client.write_event(AudioStart(RATE, 2, 1).event())
        began = time.monotonic()
        for number, event in enumerate(chunks_of(sound)):
            await asyncio.sleep(began + number * CHUNK / RATE / speed - time.monotonic())
            await client.write_event(event)
        return words_of(await answers(client, AudioStop().event()))


async def flood(server: Server) -> None:
    """Send as much as is taken, and read nothing."""
    async with server.client() as client:
        await client.write_event(AudioStart(8_000, 1, 1).event())
        loud = AudioChunk(8_000, 1, 1, np.random.default_rng(0).bytes(2**20)).event()
        while True:
            await client.write_event(loud)


async def stall(server: Server) -> None:
    """Stop in the middle of an event."""
    async with server.client() as client:
        client._writer.write(chunk() + header(type="audio-chunk", payload_length=2048) + bytes(99))
        await asyncio.sleep(60)


@pytest.mark.parametrize("speed, path", [(1, "stop.flac"), (10, "five-words.flac")])
def test_fifty_connections_hear_what_each_hears_alone(server: Server, model: StreamModel, speed: float, path: str):
    async def run() -> list[list[tuple[str, int]]]:
        others = [asyncio.create_task(trouble(server)) for trouble in (flood, stall)]
        found = await asyncio.gather(*(speak(server, sound, speed) for _ in range(50)))
        for task in others:
            task.cancel()
        return found

    sound = sound_of(ROOT / "docs/samples" / path)
    before = server.memory()
    assert asyncio.run(run()) == 50 * [expected(model, ROOT / "docs/samples" / path)]
    assert server.memory() < before + 60 * 2**20
    assert len(ask(server, Describe().event())) == 1


def test_there_is_a_limit_of_connections(model: StreamModel):
    async def run() -> None:
        service = Service(model, model.settings, ["en"], max_connections=2)
        server = AsyncTcpServer("127.0.0.1", 0)
        await server.start(partial(Connection, service))
        port = server._server.sockets[0].getsockname()[1]
        clients = [AsyncTcpClient("127.0.0.1", port) for _ in range(3)]
        for client in clients:
            await client.connect()
            await client.write_event(Describe().event())
        assert [(await client.read_event()).type for client in clients] == ["info", "info", "error"]
        assert await clients[2].read_event() is None
        await clients[0].disconnect()
        while service.connections > 1:
            await asyncio.sleep(0.01)
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            assert (await client.read_event()).type == "info"
        await server.stop()
        await clients[1].disconnect()

    asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: int, tmp_path: Path):
    server = Server(tmp_path / "log")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(chunk())
        time.sleep(0.1)
        assert server.end(number) == EXIT_INTERRUPTED
        assert client.recv(1) == b""
    assert "Traceback" not in server.log.read_text() and server.log.read_text().endswith("error: interrupted\n")


def announced(port: int) -> tuple[str, str]:
    """The kind and the name that Home Assistant looks for."""
    kind = "_wyoming._tcp.local."
    return kind, f"kws-{socket.gethostname()}-{uuid.getnode():012x}-{port}.{kind}"


def test_home_assistant_finds_it(tmp_path: Path):
    zeroconf = pytest.importorskip("zeroconf")
    server = Server(tmp_path / "log", "--zeroconf")
    try:
        with zeroconf.Zeroconf(interfaces=["127.0.0.1"]) as search:
            found = search.get_service_info(*announced(server.port), timeout=5_000)
        assert found is not None and found.port == server.port
        assert "announced as 127.0.0.1, which only this machine can reach" in server.log.read_text()
    finally:
        assert server.end() == EXIT_INTERRUPTED


def test_one_that_cannot_be_announced_serves(tmp_path: Path):
    zeroconf = pytest.importorskip("zeroconf")
    port = free_port()
    with zeroconf.Zeroconf() as other:  # the name is taken
        other.register_service(zeroconf.ServiceInfo(*announced(port), addresses=[b"\x7f\0\0\1"], port=1))
        server = Server(tmp_path / "log", "--zeroconf", port=port)
        try:
            assert Info.is_type(ask(server, Describe().event())[0].type)
            warning, = [line for line in server.log.read_text().splitlines() if "not announced" in line]
            assert "NonUniqueName" in warning and "add it to Home Assistant by host and port" in warning
        finally:
            assert server.end() == EXIT_INTERRUPTED


def test_neighbours_change_no_bit(model: StreamModel):
    rng = np.random.default_rng(5)
    spoken = sound_of(FIVE_WORDS) / np.float32(32768)
    sounds = [np.roll(spoken, 977 * number) * 10 ** -rng.uniform(0, 1.5) for number in range(7)]

    def found(listeners: list[Listener]) -> list[list]:
        parts = [[] for _ in listeners]
        for listener, sound in zip(listeners, sounds):
            listener.add(sound)
        while blocks := min(listener.blocks for listener in listeners):
            for part, detections in zip(parts, step_together(model, listeners, min(blocks, 3))):
                part += detections
        return parts

    side_by_side = found([Listener(model) for _ in sounds])
    alone = [Listener(model).feed(sound) for sound in sounds]
    assert side_by_side == alone and sum(map(len, side_by_side)) > 10
    assert [[item.confidences for item in part] for part in side_by_side] == [
        [item.confidences for item in part] for part in alone]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many listeners each call of the model hears."""
    found: list[int] = []
    monkeypatch.setattr(together, "step_together", lambda model, listeners, blocks: found.append(
        len(listeners)) or step_together(model, listeners, blocks))
    return found


async def hear(hearing: together.Together, listener: Listener, block: np.ndarray, *pauses: float) -> None:
    for pause in pauses:
        await asyncio.sleep(pause)
        await hearing.feed(listener, block)


def test_who_comes_a_moment_later_is_heard_in_the_same_call(model: StreamModel, calls: list[int],
                                                            monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(together, "_GATHERING_SECONDS", 0.3)  # a busy machine is no failure
    block = np.zeros(BLOCK_ROWS * model.step_samples, np.float32)

    async def hear_all():
        hearing = together.Together(model)
        await asyncio.gather(*(hear(hearing, Listener(model), block, 0.0, pause) for pause in (0.0, 0.01, 0.02, 1.0)))

    asyncio.run(hear_all())
    assert calls == [4, 3, 1]


def test_where_everybody_is_there_nobody_waits(model: StreamModel, calls: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(together, "_GATHERING_SECONDS", 1000.0)
    block = np.zeros(BLOCK_ROWS * model.step_samples, np.float32)

    async def hear_all(count: int):
        hearing = together.Together(model)
        await asyncio.wait_for(asyncio.gather(
            *(hear(hearing, Listener(model), block, 0.0, 0.0) for _ in range(count))), 60)

    for count in (1, 3, together._MOST_LISTENERS):
        asyncio.run(hear_all(count))
        assert sum(calls) == 2 * count
        calls.clear()
