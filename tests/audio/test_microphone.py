"""The choice of a microphone, and what is said without one; tests/integration/test_audio_server.py hears one."""
import sys

import numpy as np
import pytest

from kws.audio import devices, microphone
from kws.audio.devices import choose_device, find_again
from kws.errors import DataError

DEVICES = [{"name": name, "max_input_channels": channels} for name, channels in (
    ("HDA Intel PCH: ALC257 Analog (hw:0,0)", 2), ("HDMI 0", 0), ("USB PnP Sound Device: Audio (hw:1,0)", 1),
    ("USB Camera: Audio (hw:2,0)", 1), ("pulse", 32), ("pulse monitor", 2))]


@pytest.mark.parametrize("wanted, index", [("0", 0), ("4", 4), ("PnP", 2), ("camera", 3), ("pulse", 4), ("hw:0", 0)])
def test_a_device_is_chosen_by_index_or_a_part_of_its_name(wanted, index):
    assert choose_device(DEVICES, wanted) == index


@pytest.mark.parametrize("wanted, said", [
    ("usb", "several"), ("hdmi", "no such"), ("1", "no such"), ("99", "no such"), ("no such", "4 pulse")])
def test_what_is_not_one_device_is_told_with_those_that_are_there(wanted, said):
    with pytest.raises(DataError, match=said) as error:
        choose_device(DEVICES, wanted)
    assert error.value.code == "no_microphone" and "HDMI 0" not in str(error.value).partition("found")[2]


@pytest.mark.parametrize("name, index", [
    ("USB PnP Sound Device: Audio (hw:1,0)", 2), ("USB PnP Sound Device: Audio (hw:7,0)", 2), ("pulse", 4),
    ("USB PnP Sound Device: Audio (hw:3,0)", 6), ("HDMI 0", None), ("USB", None), ("", None)])
def test_a_device_that_was_pulled_out_is_found_again(name, index):
    twin = {"name": "USB PnP Sound Device: Audio (hw:3,0)", "max_input_channels": 1}
    assert find_again([*DEVICES, twin], name) == index


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DataError, match=r"pip install 'kws\[mic\]'"):
        devices.list_microphones()


def test_lost_sound_shows_against_the_clock():
    position, clock = microphone._Position(), 100.0
    for number in range(1000):
        late = 0.02 * (number % 3 == 0)
        assert position.add(clock + late, 0.05) < 0.05
        clock += 0.05
    assert position.add(clock + 0.7, 0.05) == pytest.approx(0.7, abs=0.05)


def test_a_full_queue_never_stops_the_device():
    import queue

    blocks = queue.Queue(2)
    put = microphone._filler(blocks)
    for _ in range(5):
        put(np.zeros((800, 1), dtype=np.float32), 800, None, type("Status", (), {"input_overflow": False}))
    assert [blocks.get().lost, blocks.get().lost] == [False, False]
    put(np.zeros((800, 1), dtype=np.float32), 800, None, type("Status", (), {"input_overflow": False}))
    assert blocks.get().lost
