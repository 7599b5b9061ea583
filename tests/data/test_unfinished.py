import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from kws.audio.decode import Limits
from kws.data import inspection
from kws.data.unfinished import unfinished, write_clips
from kws.errors import DataError
from kws.files.locks import exclusive

CHUNK = 4


@pytest.fixture
def listing(tmp_path, noise, wav_bytes):
    """Ten clips, of which the third is a copy of the first in another split, and one is bad."""
    for number in range(10):
        (tmp_path / f"{number}.wav").write_bytes(wav_bytes(noise(0 if number == 2 else number, 0.02)))
    (tmp_path / "7.wav").write_bytes(b"bad")
    splits = ["testing", "testing", "validation", "validation", *["training"] * 6]
    return pd.DataFrame({"path": [f"{number}.wav" for number in range(10)], "split": splits})


def write(folder, listing, root, num_samples=320):
    folder.mkdir(exist_ok=True)
    found = write_clips(folder, listing, root, 16000, num_samples, Limits(), 1, CHUNK)
    return found, (folder / "clips.s16").read_bytes()


@pytest.fixture
def inspected(monkeypatch):
    """The paths that are inspected from now on; `stop_at` is where the program is interrupted."""
    class Watch(list):
        stop_at = None

    paths, real = Watch(), inspection.inspect_file

    def inspect(path, **options):
        if path == paths.stop_at:
            raise KeyboardInterrupt
        paths.append(path)
        return real(path, **options)

    monkeypatch.setattr(inspection, "inspect_file", inspect)
    return paths


def test_what_was_interrupted_goes_on_and_ends_with_the_same(listing, tmp_path, inspected):
    expected, content = write(tmp_path / "whole", listing, tmp_path)
    assert expected["kept"].tolist() == [True, True, False, *[True] * 4, False, True, True]
    inspected.stop_at = "9.wav"
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "part", listing, tmp_path)
    assert len(list((tmp_path / "part").glob("*.parquet"))) == 2
    inspected.clear()
    inspected.stop_at = None
    found, resumed = write(tmp_path / "part", listing, tmp_path)
    assert inspected == ["8.wav", "9.wav"]
    pd.testing.assert_frame_equal(found, expected)
    assert resumed == content


def test_a_copy_of_what_was_finished_before_is_left_out(listing, tmp_path, inspected, noise, wav_bytes):
    (tmp_path / "8.wav").write_bytes(wav_bytes(noise(1, 0.02)))
    inspected.stop_at = "5.wav"
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "part", listing, tmp_path)
    inspected.stop_at = None
    found, _ = write(tmp_path / "part", listing, tmp_path)
    assert not found["kept"][8]


@pytest.mark.parametrize("change", ["file", "added", "split", "settings", "cut"])
def test_what_no_longer_fits_is_done_again(listing, tmp_path, inspected, noise, wav_bytes, change):
    write(tmp_path / "part", listing, tmp_path)
    inspected.clear()
    num_samples, redone = 320, [f"{number}.wav" for number in range(4, 10)]
    if change == "file":
        (tmp_path / "5.wav").write_bytes(wav_bytes(noise(55, 0.03)))
    elif change == "added":
        (tmp_path / "4a.wav").write_bytes(wav_bytes(noise(44, 0.02)))
        listing.loc[4.5] = ["4a.wav", "training"]
        listing, redone = listing.sort_index(ignore_index=True), redone[:1] + ["4a.wav"] + redone[1:]
    elif change == "split":
        listing.loc[4, "split"] = "validation"
    elif change == "settings":
        num_samples, redone = 160, listing["path"].tolist()
    elif change == "cut":  # a power failure lost the end of the clips
        os.truncate(tmp_path / "part/clips.s16", 640 * 3 + 100)
    found, content = write(tmp_path / "part", listing, tmp_path, num_samples)
    assert inspected == redone
    expected, whole = write(tmp_path / "whole", listing, tmp_path, num_samples)
    pd.testing.assert_frame_equal(found, expected)
    assert content == whole


def test_nothing_is_left_unless_something_is_finished(tmp_path):
    with unfinished(tmp_path / "store") as folder:
        (folder / "clips.s16").touch()
    assert not folder.exists()
    for error, finished, stays in ((KeyboardInterrupt(), True, True), (KeyboardInterrupt(), False, False),
                                   (DataError("bad", "rejected_data"), True, False)):
        with pytest.raises(type(error)), unfinished(tmp_path / "store") as folder:
            (folder / "clips.s16").touch()
            if finished:
                (folder / "000000-x.parquet").touch()
            raise error
        assert folder.exists() == stays
        for file in folder.glob("*.parquet"):
            file.unlink()
    assert not list(tmp_path.glob("*.lock"))


def test_a_store_is_prepared_once_at_a_time_and_strangers_stay(tmp_path):
    with exclusive(tmp_path / "store", "a preparation"), pytest.raises(DataError, match="in use by a preparation"):
        with unfinished(tmp_path / "store"):
            pass
    (tmp_path / "store.part").mkdir()
    (tmp_path / "store.part/mine").touch()
    with pytest.raises(FileExistsError), unfinished(tmp_path / "store"):
        pass


def test_clips_that_are_lost_are_done_again(listing, tmp_path, inspected):
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "store") as folder:
        expected, content = write(folder, listing, tmp_path)
        (folder / "clips.s16").unlink()  # moved into a store that was never completed
        raise KeyboardInterrupt
    inspected.clear()
    with unfinished(tmp_path / "store") as folder:
        found, again = write(folder, listing, tmp_path)
    assert inspected == listing["path"].tolist() and again == content
    pd.testing.assert_frame_equal(found, expected)


def test_a_killed_preparation_goes_on_and_writes_the_same_store(corpus, tmp_path):
    """Real processes, killed as the kernel does when memory runs out."""
    root = corpus(takes=8)
    code = ("import sys, time, pathlib; from kws.data import prepare, inspection, unfinished\n"
            "unfinished.write_clips.__defaults__ = (50,)\n"
            "real = inspection.read_bytes\n"
            "inspection.read_bytes = lambda *a: (time.sleep(float(sys.argv[2])), real(*a))[1]\n"
            "prepare.prepare(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3]), keywords=['yes', 'no'], "
            "sample_rate=16000, clip_seconds=1.0, min_seconds=0.1, max_seconds=10.0, "
            "speaker_pattern='(?P<speaker>[^/]+?)_nohash_', split_by='speaker', validation_percent=10.0, "
            "testing_percent=10.0, require_noise=True, workers=2)")

    def start(pause, name):
        return subprocess.Popen([sys.executable, "-c", code, str(root), pause, str(tmp_path / name)],
                                start_new_session=True)

    process = start("0.02", "store")
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("store.part/*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    assert not (tmp_path / "store").exists() and (tmp_path / "store.part").exists()
    assert start("0", "store").wait(120) == 0 and start("0", "whole").wait(120) == 0
    one, other = ({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
                  for folder in (tmp_path / "store", tmp_path / "whole"))
    assert one == other and one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "store", "whole"]
