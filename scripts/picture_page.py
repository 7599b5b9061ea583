"""Take the pictures of the page for the documentation, in a real browser without a window.

  python scripts/picture_page.py http://127.0.0.1:8000/ docs/samples/five-words.flac docs/images

`kws demo` offers the page. Needs Chromium (Debian's package chromium) and writes page-light.png, page-dark.png and
page-phone.png.
"""
from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from websockets.sync.client import ClientConnection, connect

from kws.commands.cli import EXIT_OK, guard

# name: width, height, scale, theme
PICTURES = {"page-light": (1000, 1040, 1, "light"), "page-dark": (1000, 1040, 1, "dark"),
            "page-phone": (390, 780, 2, "dark")}


class Page(ABC):
    """One page of a browser; its children know how browsers are driven.

    Args:
        profile: folder of the browser's own files; what is downloaded comes into its folder "downloads".
    """

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.complaints: list[str] = []  # of the browser: errors that nobody caught, rules that were broken

    @abstractmethod
    def open(self, address: str) -> None:
        """Go to an address, without waiting for it."""

    @abstractmethod
    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited; raises RuntimeError if it throws."""

    @abstractmethod
    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files as in the dialogue of an input."""

    def wait_for(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true, and return its value; raises TimeoutError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{expression}; the page: {self.evaluate('document.body.innerText')}; {self.complaints}")


class ConnectedPage(Page):
    """A page that is driven by numbered messages, as the DevTools protocol and WebDriver BiDi have them.

    Args:
        connection: to the page, or to its browser.
    """

    def __init__(self, connection: ClientConnection, profile: Path) -> None:
        super().__init__(profile)
        self._connection, self._last = connection, 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; raises RuntimeError for one that fails."""
        self._last += 1
        self._connection.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=120))
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message}")
                return dict(message["result"])
            self.note(message["method"], message["params"])

    @abstractmethod
    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Take note of what the browser tells of itself."""


class Chromium(ConnectedPage):
    """A page of Chromium, driven by the DevTools protocol."""

    def __init__(self, connection: ClientConnection, profile: Path) -> None:
        super().__init__(connection, profile)
        self.requested: list[str] = []  # addresses
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(profile / "downloads"))

    def open(self, address: str) -> None:
        """Go to an address, without waiting for it."""
        self.send("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited; raises RuntimeError if it throws."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
                           userGesture=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files, or a folder, as in the dialogue of an input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def look(self, width: int, height: int, scale: int, theme: str) -> None:
        """Show the page on a screen of this size, in pixels of CSS, and "light" or "dark"."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 600)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Take note of addresses and complaints."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")


def find_browser() -> Optional[str]:
    """Return the program, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser(*options: str) -> Iterator[Chromium]:
    """Start Chromium without a window, and yield its page."""
    program = find_browser()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--remote-debugging-port=0", f"--user-data-dir={profile}", *options, "about:blank"]
        with started(command):
            port = content(Path(profile) / "DevToolsActivePort").split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=60) as answer:
                page = next(target for target in json.load(answer) if target["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], max_size=None) as connection:
                yield Chromium(connection, Path(profile))


@contextmanager
def started(command: Sequence[str], environment: Optional[dict[str, str]] = None) -> Iterator[None]:
    """Run a program; in the end it is killed with all that it started."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               process_group=0)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def content(path: Path, seconds: float = 60.0) -> str:
    """Wait until a program has written a file; raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and (text := path.read_text()):
            return text
        time.sleep(0.05)
    raise TimeoutError(f"{path} was not written; does the browser start?")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the page")
    parser.add_argument("recording", type=Path, help="to show")
    parser.add_argument("folder", type=Path, help="for the pictures")
    args = parser.parse_args(argv)
    with browser() as page:
        for name, look in PICTURES.items():
            page.look(*look)
            page.open(args.address)
            page.wait_for("document.querySelector('#recording')?.disabled === false")
            page.choose_files("#recording", args.recording)
            page.wait_for("document.querySelector('#status').textContent.includes('heard')")
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            data = page.send("Page.captureScreenshot", format="png")["data"]
            (args.folder / f"{name}.png").write_bytes(base64.b64decode(data))
            print(args.folder / f"{name}.png")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
