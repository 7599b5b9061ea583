"""Which microphones there are, and the choice of one."""
from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, Optional, Sequence

from kws.errors import DataError


def list_microphones() -> list[str]:
    """Describe the devices that record, a line each: index (* the default), name, channels, rate."""
    portaudio = import_portaudio()
    standard, found = portaudio.default.device[0], recording_devices(portaudio.query_devices())
    return [f"{index:3d}{'*' if index == standard else ' '} {device['name']} ({device['max_input_channels']} channels, "
            f"{device['default_samplerate']:,.0f} Hz)" for index, device in found.items()]


def choose_device(devices: Sequence[Mapping[str, Any]], wanted: str) -> int:
    """Find a device that records by its index, its name, or a part of its name in any case.

    Raises:
        DataError: "no_microphone" if none or several have such a name.
    """
    found = recording_devices(devices)
    if wanted.isdecimal():
        matching = [int(wanted)] if int(wanted) in found else []
    else:
        matching = ([index for index, device in found.items() if device["name"] == wanted][:1]
                    or [index for index, device in found.items() if wanted.lower() in device["name"].lower()])
    if len(matching) == 1:
        return matching[0]
    named = ", ".join(f"{index} {found[index]['name']}" for index in matching or found) or "none"
    problem = "several microphones have this in their name; choose one of" if matching else "no such microphone; found"
    raise DataError(f"--device {wanted}: {problem}: {named}", "no_microphone")


def find_again(devices: Sequence[Mapping[str, Any]], name: str) -> Optional[int]:
    """Find the device that has been heard, else the first of its kind; None if there is none now."""
    names = {index: str(device["name"]) for index, device in recording_devices(devices).items()}
    same = [index for index, found in names.items() if lasting_name(found) == lasting_name(name)]
    return next((index for index in same if names[index] == name), same[0] if same else None)


def recording_devices(devices: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Leave out the devices that only play; the others by index."""
    return {index: device for index, device in enumerate(devices) if device["max_input_channels"] > 0}


def lasting_name(name: str) -> str:
    """What of a device's name stays when devices come and go: not the number that ALSA appends."""
    return name.partition(" (hw:")[0]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what PortAudio and ALSA write to standard error, a dozen lines for each device that does not open, away."""
    nowhere, kept = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def import_portaudio() -> Any:
    """Import sounddevice, which is needed for microphones only."""
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise DataError("a microphone needs the package sounddevice, which is not installed: pip install 'kws[mic]'",
                        "no_portaudio") from None
    except OSError:
        raise DataError("a microphone needs PortAudio, which is not installed; Debian and Ubuntu: "
                        "apt-get install libportaudio2", "no_portaudio") from None
    return sounddevice
