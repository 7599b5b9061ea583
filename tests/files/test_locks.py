import subprocess
import sys

import pytest

from kws.errors import DataError
from kws.files.locks import exclusive, open_alone

HOLDER = """
import sys, time
from pathlib import Path
from kws.files.locks import exclusive
with exclusive(Path(sys.argv[1]), "a training"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_place_is_held_by_one_process_until_it_ends_however_it_ends(tmp_path):
    place = tmp_path / "runs/kws"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"in use by a training .process {holder.pid}.; wait") as caught:
            with exclusive(place, "another"):
                pytest.fail("held twice")
        assert caught.value.code == "in_use"
        with exclusive(tmp_path / "runs/other", "another"):
            pass
    finally:
        holder.kill()
        holder.wait()
    with exclusive(place, "another"):
        assert (tmp_path / "runs/kws.lock").read_text().startswith("another (process ")
    assert not list((tmp_path / "runs").iterdir())


def test_a_link_and_its_target_are_one_place(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with exclusive(tmp_path / "target", "a training"), pytest.raises(DataError):
        with exclusive(tmp_path / "link", "a training"):
            pytest.fail("held twice")


def test_a_failure_frees_the_place(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "run", "a training"):
            raise ZeroDivisionError


def test_a_file_is_opened_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "lock"
    code = f"from kws.files.locks import open_alone; from pathlib import Path; open_alone(Path({str(path)!r}))"

    def refused():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0 or "BlockingIOError" in done.stderr
        return done.returncode != 0

    with open_alone(path) as file:
        file.write("mine")
        assert refused()
    assert path.read_text() == "mine"
    waiting = f"{code.replace('; open', '; file = open')}; print(1, flush=True); import time; time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", waiting], stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert refused()
    holder.kill()
    holder.communicate()
    assert not refused()
