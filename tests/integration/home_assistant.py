"""Home Assistant, run for tests: a process with a folder of its own, driven as its own pages drive it."""
from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import requests
from websockets.sync.client import ClientConnection, connect

RATE, CHUNK = 16_000, 1024  # Hz; samples, what a satellite sends at once
SECONDS = 60  # for anything to happen
# Without `default_config`, most of which needs more packages. The automations are those of the documentation.
CONFIGURATION = """\
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
config:
onboarding:
zeroconf:
assist_pipeline:
webhook:
input_boolean: {{spoken: , posted: }}
automation:
  - alias: a wake word was heard
    trigger: [{{platform: state, entity_id: wake_word.kws}}]
    action: [{{service: input_boolean.turn_on, target: {{entity_id: input_boolean.spoken}}}}]
  - alias: kws listen says so
    trigger: [{{platform: webhook, webhook_id: kws-left, allowed_methods: [POST]}}]
    action: [{{service: input_boolean.turn_on, target: {{entity_id: input_boolean.posted}}}}]
"""


class HomeAssistant:
    """Home Assistant with its first user.

    Args:
        program: `hass`.
        folder: for its configuration, its state and its log.
        port: of its pages.
    """

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log"
        (folder / "configuration.yaml").write_text(CONFIGURATION.format(port=port))
        with open(self.log, "w") as log:
            self._process = subprocess.Popen([program, "--config", str(folder), "--skip-pip"], stdout=log, stderr=log)
        self._headers: dict[str, str] = {}
        self.version = ""

    def begin(self) -> None:
        """Wait until it runs, and make the first user, as its first page does."""
        self.wait_for(self._is_running, 2 * SECONDS)
        client = {"client_id": f"{self.url}/"}
        code = self.post("/api/onboarding/users", {**client, "name": "A Tester", "username": "tester",
                                                   "password": "secret", "language": "en"})["auth_code"]
        token = requests.post(f"{self.url}/auth/token", timeout=SECONDS,
                              data={**client, "grant_type": "authorization_code", "code": code}).json()
        self._headers = {"Authorization": f"Bearer {token['access_token']}"}
        self.version = requests.get(f"{self.url}/api/config", headers=self._headers, timeout=SECONDS).json()["version"]

    def end(self) -> None:
        """Stop it, as a service is stopped."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(SECONDS)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post to its REST API and return what it answers."""
        answer = requests.post(self.url + path, json=body, headers=self._headers, timeout=SECONDS)
        assert answer.ok, answer.text
        return answer.json()

    def state(self, entity: str) -> str:
        """The state of an entity."""
        answer = requests.get(f"{self.url}/api/states/{entity}", headers=self._headers, timeout=SECONDS)
        return str(answer.json()["state"])

    def add_wyoming(self, host: str, port: int) -> dict[str, Any]:
        """Fill in the form of the Wyoming integration, and return what follows."""
        form = self.post("/api/config/config_entries/flow", {"handler": "wyoming"})
        assert [field["name"] for field in form["data_schema"]] == ["host", "port"]
        found: dict[str, Any] = self.post(f"/api/config/config_entries/flow/{form['flow_id']}",
                                          {"host": host, "port": port})
        return found

    def wait_for(self, condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """Wait until something is true, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := condition():
                return found
            time.sleep(0.2)
        raise AssertionError(f"in vain; the log of Home Assistant:\n{self.log.read_text()[-5000:]}")

    @contextmanager
    def talk(self) -> Iterator[Talk]:
        """Connect to its websocket."""
        with connect(f"{self.url.replace('http', 'ws')}/api/websocket", max_size=None) as connection:
            connection.recv()
            connection.send(json.dumps({"type": "auth", "access_token": self._headers["Authorization"].split()[1]}))
            assert json.loads(connection.recv())["type"] == "auth_ok"
            yield Talk(connection)

    def _is_running(self) -> bool:
        try:
            return requests.get(f"{self.url}/api/onboarding", timeout=SECONDS).ok
        except requests.ConnectionError:
            return False


class Talk:
    """A websocket of Home Assistant: commands, and sound for its assistants."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._last = connection, 0

    def ask(self, kind: str, **fields: Any) -> Any:
        """Send a command and return its result."""
        self._send(kind, **fields)
        message = self._read(SECONDS)
        assert message["type"] == "result" and message["success"], message
        return message["result"]

    def speak(self, pipeline: str, sound: np.ndarray, timeout: float = 30.0) -> list[tuple[str, dict[str, Any]]]:
        """Speak to an assistant at real speed, and be silent then: the events of its run, (type, data).

        Args:
            pipeline: its id.
            sound: [T] int16.
            timeout: seconds without a wake word, after which the run is to end.
        """
        self._send("assist_pipeline/run", start_stage="wake_word", end_stage="wake_word", pipeline=pipeline,
                   input={"sample_rate": RATE, "timeout": timeout})
        message = self._read(SECONDS)
        assert message["success"], message
        events = [self._event(SECONDS)]
        handler = bytes([events[0][1]["runner_data"]["stt_binary_handler_id"]])
        began = time.monotonic()
        for number in range(2 * SECONDS * RATE // CHUNK):
            chunk = sound[number * CHUNK:(number + 1) * CHUNK]
            self._connection.send(handler + np.pad(chunk, (0, CHUNK - len(chunk))).tobytes())
            try:
                while True:
                    events.append(self._event(max(0.0, began + (number + 1) * CHUNK / RATE - time.monotonic())))
                    if events[-1][0] == "run-end":
                        return events
            except TimeoutError:
                pass
        raise AssertionError(f"a run without an end: {events}")

    def _send(self, kind: str, **fields: Any) -> None:
        self._last += 1
        self._connection.send(json.dumps({"id": self._last, "type": kind, **fields}))

    def _read(self, seconds: float) -> dict[str, Any]:
        """Read the next message about the last command; raises TimeoutError."""
        while (message := json.loads(self._connection.recv(seconds)))["id"] != self._last:
            pass
        return dict(message)

    def _event(self, seconds: float) -> tuple[str, dict[str, Any]]:
        event = self._read(seconds)["event"]
        return event["type"], event["data"]
