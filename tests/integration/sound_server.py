"""A sound server without hardware: what is played to it is what its microphone records."""
from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALSA = """\
</usr/share/alsa/alsa.conf>
pcm.room { type pulse device "room.monitor" hint { show on description "Room" } }
pcm.!default { type pulse }
ctl.!default { type pulse }
"""
SECONDS = 20  # for anything to happen


class SoundServer:
    """PulseAudio without hardware, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "asoundrc").write_text(ALSA)
        address = f"unix:{folder}/native"
        self.environment = {**os.environ, "PULSE_SERVER": address, "PULSE_RUNTIME_PATH": str(folder),
                            "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder), "OMP_NUM_THREADS": "1",
                            "ALSA_CONFIG_PATH": str(folder / "asoundrc"), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--system=false", "--use-pid-file=no", "-L",
             f"module-native-protocol-unix socket={folder}/native auth-anonymous=1"],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def control(self, *command: str, check: bool = True) -> str:
        """Run pactl."""
        done = subprocess.run(["pactl", *command], env=self.environment, timeout=SECONDS, text=True,
                              capture_output=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def plug_in(self) -> None:
        """Add the device: what is played to it is what it records."""
        self.control("load-module", "module-null-sink", "sink_name=room", "rate=48000")

    def plug_in_microphone(self) -> None:
        """Add a microphone in the room; browsers take no loudspeaker for one."""
        self.control("load-module", "module-remap-source", "master=room.monitor", "source_name=microphone")
        self.control("set-default-source", "microphone")

    def play(self, path: Path) -> None:
        """Play a recording to its end."""
        subprocess.run(["paplay", "--device=room", str(path)], env=self.environment, check=True, timeout=60)


@contextmanager
def sound_server() -> Iterator[SoundServer]:
    """Run one with its device plugged in; a test is skipped where there is none."""
    if not shutil.which("pulseaudio") or not shutil.which("pactl"):
        pytest.skip("no sound server; Debian's packages pulseaudio and pulseaudio-utils are one")
    folder = Path(tempfile.mkdtemp(prefix="kws-sound-"))  # short: the path of a socket has at most 107 bytes
    server = SoundServer(folder)
    try:
        wait_for(lambda: "Server Name" in server.control("info", check=False), "the sound server")
        server.plug_in()
        yield server
    finally:
        server.process.terminate()
        server.process.wait(SECONDS)
        shutil.rmtree(folder)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so, and say what did not come about."""
    limit = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < limit, f"waited in vain for {what}"
        time.sleep(0.1)
