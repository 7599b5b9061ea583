import datasets
import numpy as np
import pandas as pd
import pytest

from kws.data.store import CLIPS_FILE, NOISE_FILE, load_store, write_index, write_samples
from kws.data.validate import MANIFEST_COLUMNS
from kws.errors import DataError
from kws.model.labels import LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])


def clips(count, num_samples, seed=0):
    return np.random.default_rng(seed).integers(-32768, 32768, (count, num_samples)).astype(np.int16)


def write_store(folder, count=5, num_samples=7, noise_lengths=(30, 10)):
    folder.mkdir(exist_ok=True)
    with open(folder / CLIPS_FILE, "wb") as file:
        assert [write_samples(file, samples) for samples in clips(count, num_samples)] == [num_samples] * count
    with open(folder / NOISE_FILE, "wb") as file:
        for length in noise_lengths:
            write_samples(file, clips(1, length)[0])
    rows = [(f"yes/{number}.wav", "yes", "yes", str(number), "training", 16000, 7, f"{number:064x}")
            for number in range(count)]
    noise = pd.DataFrame({"path": ["_background_noise_/hum.wav", "_background_noise_/rain.wav"], "sha256": ["0", "1"]})
    write_index(folder, pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)),
                noise[:len(noise_lengths)].assign(num_samples=list(noise_lengths)), LABELS, 16000, num_samples)
    return folder


@pytest.mark.parametrize("count, num_samples", [(1, 1), (1, 16000), (3, 7), (130, 4001)])
def test_clips_come_back(tmp_path, count, num_samples):
    store = load_store(write_store(tmp_path / "store", count, num_samples))
    np.testing.assert_array_equal(store.waveforms, clips(count, num_samples))


def test_the_files_are_what_they_are_said_to_be(tmp_path):
    """The manifest is a dataset for `datasets`; the rest is plain 16-bit little-endian samples."""
    folder = write_store(tmp_path / "store")
    table = datasets.load_from_disk(folder / "manifest")
    assert table.column_names == list(MANIFEST_COLUMNS) and table[3]["path"] == "yes/3.wav"
    assert (folder / "clips.s16").read_bytes() == clips(5, 7).astype("<i2").tobytes()
    assert (folder / "noise.s16").stat().st_size == 2 * (30 + 10)


def test_words_that_look_like_missing_values_come_back(tmp_path):
    labels, folder = LabelSet.from_keywords(["null", "nan"]), tmp_path / "store"
    rows = [(f"{word}/1.wav", word, word, "NA", "training", 16000, 7, "0" * 64) for word in ("null", "nan")]
    folder.mkdir()
    (folder / CLIPS_FILE).write_bytes(bytes(2 * 2 * 7))
    (folder / NOISE_FILE).touch()
    write_index(folder, pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)),
                pd.DataFrame(columns=["path", "sha256", "num_samples"]), labels, 16000, 7)
    assert load_store(folder).manifest["label"].tolist() == ["null", "nan"]


def test_a_store_is_a_view_of_its_files(tmp_path):
    store = load_store(write_store(tmp_path / "store"))
    assert store.waveforms.shape == (5, 7) and store.waveforms.dtype == np.int16
    assert not store.waveforms.flags.owndata and not store.waveforms.flags.writeable
    assert {name: samples.tolist() for name, samples in store.noise.items()} == {
        "hum.wav": clips(1, 30)[0].tolist(), "rain.wav": clips(1, 10)[0].tolist()}
    assert store.labels == LABELS and store.sample_rate == 16000
    assert store.manifest.index.tolist() == list(range(5)) and store.manifest["num_samples"].dtype == np.int64


def test_a_store_without_noise(tmp_path):
    assert load_store(write_store(tmp_path / "store", noise_lengths=())).noise == {}


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="run `kws prepare`") as caught:
        load_store(tmp_path / "store")
    assert caught.value.code == "no_store"


@pytest.mark.parametrize("name", ["store.json", CLIPS_FILE, NOISE_FILE, "manifest/state.json",
                                  "manifest/dataset_info.json", "manifest/data-00000-of-00001.arrow"])
@pytest.mark.parametrize("harm", ["missing", "empty", "half", "noise"])
def test_a_store_that_lost_something_is_refused(tmp_path, name, harm):
    path = write_store(tmp_path / "store", count=50, num_samples=400) / name
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[:len(content) // 2], "noise": b"\x07" * 500}[harm])
    with pytest.raises(DataError, match=r"kws prepare") as caught:
        load_store(tmp_path / "store")
    assert caught.value.code == "bad_store" and "\n" not in str(caught.value)


def test_a_store_of_another_version_is_refused(tmp_path):
    index = write_store(tmp_path / "store") / "store.json"
    index.write_text(index.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DataError, match="format 1; this program reads format 2; run .*`kws prepare`"):
        load_store(tmp_path / "store")


@pytest.mark.parametrize("name, old, new", [("manifest/data-00000-of-00001.arrow", b"training", b"testings"),
                                            ("store.json", b"16000", b" 8000")])
def test_an_edited_store_is_refused(tmp_path, name, old, new):
    path = write_store(tmp_path / "store") / name
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(DataError, match="do not belong together") as caught:
        load_store(tmp_path / "store")
    assert caught.value.code == "bad_store"


def test_clips_of_another_store_are_refused(tmp_path):
    write_store(tmp_path / "store")
    other = write_store(tmp_path / "other", count=4)
    (other / CLIPS_FILE).rename(tmp_path / "store" / CLIPS_FILE)
    with pytest.raises(DataError, match="clips.s16: 56 bytes; expected 70"):
        load_store(tmp_path / "store")


def test_a_bad_manifest_is_never_written(tmp_path):
    with pytest.raises(DataError) as caught:
        write_index(tmp_path, pd.DataFrame([("a",) * 8], columns=list(MANIFEST_COLUMNS)),
                    pd.DataFrame(columns=["path", "sha256", "num_samples"]), LABELS, 16000, 7)
    assert caught.value.code == "bad_manifest" and list(tmp_path.iterdir()) == []
