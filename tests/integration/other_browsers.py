"""Browsers beside Chromium: Firefox, and WebKit, the engine of Safari, with the window that comes with it."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

from picture_page import ConnectedPage, Page, content, started
from websockets.sync.client import ClientConnection, connect

# Nobody is there to allow the microphone, or to say where downloads go.
PREFERENCES = {"media.navigator.permission.disabled": True, "browser.download.folderList": 2}


class Firefox(ConnectedPage):
    """A page of Firefox, driven by WebDriver BiDi."""

    def __init__(self, connection: ClientConnection, profile: Path) -> None:
        super().__init__(connection, profile)
        self.version = self.send("session.new", capabilities={})["capabilities"]["browserVersion"]
        self._context = self.send("browsingContext.getTree")["contexts"][0]["context"]
        self.send("session.subscribe", events=["log.entryAdded"])

    def open(self, address: str) -> None:
        """Go to an address."""
        self.send("browsingContext.navigate", context=self._context, url=address)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited; raises RuntimeError if it throws."""
        result = self.send("script.evaluate", expression=as_json(expression), target={"context": self._context},
                           awaitPromise=True, userActivation=True)
        if result["type"] == "exception":
            raise RuntimeError(f"{expression}: {result['exceptionDetails']['text']}")
        return json.loads(result["result"].get("value", "null"))

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files as in the dialogue of an input."""
        nodes = self.send("browsingContext.locateNodes", context=self._context,
                          locator={"type": "css", "value": selector})["nodes"]
        self.send("input.setFiles", context=self._context, element={"sharedId": nodes[0]["sharedId"]},
                  files=[str(path.resolve()) for path in paths])

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Take note of errors."""
        if method == "log.entryAdded" and parameters["level"] == "error":
            self.complaints.append(parameters["text"])


class WebKit(Page):
    """A page of WebKit, driven by WebDriver.

    Args:
        driver: address of WebKitWebDriver.
    """

    def __init__(self, driver: str, profile: Path) -> None:
        super().__init__(profile)
        self._address = f"{driver}/session"
        session = self.send("POST", "", {"capabilities": {}})
        self.version = session["capabilities"]["browserVersion"]
        self._address += f"/{session['sessionId']}"

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a command and return its result; raises RuntimeError for one that fails."""
        request = urllib.request.Request(self._address + path, method=method, data=body and json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from None

    def open(self, address: str) -> None:
        """Go to an address."""
        self.send("POST", "/url", {"url": address})

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited; raises RuntimeError if it throws."""
        text = self.send("POST", "/execute/sync", {"script": f"return {as_json(expression)};", "args": []})
        return json.loads(text or "null")

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files as in the dialogue of an input."""
        element, = self.send("POST", "/element", {"using": "css selector", "value": selector}).values()
        self.send("POST", f"/element/{element}/value", {"text": "\n".join(str(path.resolve()) for path in paths)})


def as_json(expression: str) -> str:
    """An expression whose value is that of another, as text, which every protocol carries."""
    return f"(async () => JSON.stringify(await ({expression})))()"


def find_firefox() -> Optional[str]:
    """Return the program, if it is installed."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


def find_webkit() -> Optional[str]:
    """Return its driver, if that and a screen without hardware are installed."""
    return shutil.which("WebKitWebDriver") if shutil.which("Xvfb") else None


@contextmanager
def firefox(environment: dict[str, str], _: int) -> Iterator[Firefox]:
    """Start Firefox without a window, and yield its page."""
    program = find_firefox()
    assert program is not None
    with home(environment) as (folder, own):
        preferences = {**PREFERENCES, "browser.download.dir": str(folder / "downloads")}
        (folder / "user.js").write_text("".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()))
        command = [program, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0"]
        with started([*command, "about:blank"], own):
            server = json.loads(content(folder / "WebDriverBiDiServer.json"))
            with connect(f"ws://127.0.0.1:{server['ws_port']}/session", max_size=None) as connection:
                yield Firefox(connection, folder)


@contextmanager
def webkit(environment: dict[str, str], port: int) -> Iterator[WebKit]:
    """Start WebKit in a window that nobody sees, and yield its page."""
    program = find_webkit()
    assert program is not None
    with home(environment) as (folder, own), screen() as display, \
            started([program, f"--port={port}"], {**own, "DISPLAY": display}):
        wait_for_driver(f"http://127.0.0.1:{port}/status")
        yield WebKit(f"http://127.0.0.1:{port}", folder)


@contextmanager
def home(environment: dict[str, str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder of a browser's own, with downloads in "downloads", and the environment that leads there."""
    with tempfile.TemporaryDirectory(prefix="kws-home-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "downloads").mkdir()
        (folder / "user-dirs.dirs").write_text('XDG_DOWNLOAD_DIR="$HOME/downloads"\n')
        variables = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
        yield folder, {**os.environ, **environment, **dict.fromkeys(variables, name)}


@contextmanager
def screen() -> Iterator[str]:
    """A screen without hardware; its name, as DISPLAY has it."""
    with subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            yield f":{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def wait_for_driver(address: str, seconds: float = 60.0) -> None:
    """Wait until a driver answers; raises the error of the last try."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)
