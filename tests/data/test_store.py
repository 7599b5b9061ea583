import datasets
import numpy as np
import pandas as pd
import pytest

from kws.data.arrow import ClipWriter, read_clips, read_noise, write_noise
from kws.data.store import load_store, write_index
from kws.data.validate import MANIFEST_COLUMNS
from kws.errors import DataError
from kws.labels import LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])


def clips(count, num_samples, seed=0):
    return np.random.default_rng(seed).integers(-32768, 32768, (count, num_samples)).astype(np.int16)


def write_store(folder, count=5, num_samples=7):
    folder.mkdir(exist_ok=True)
    with ClipWriter(folder / "clips.arrow", num_samples) as writer:
        for samples in clips(count, num_samples):
            writer.add(samples)
        writer.finish()
    write_noise(folder / "noise.arrow", [("hum.wav", clips(1, 30)[0]), ("rain.wav", clips(1, 10)[0])])
    rows = [(f"yes/{number}.wav", "yes", "yes", str(number), "training", 16000, 7, f"{number:064x}")
            for number in range(count)]
    noise = pd.DataFrame({"path": ["hum.wav", "rain.wav"], "sha256": ["0", "1"]})
    write_index(folder, pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)), noise, LABELS, 16000, num_samples)
    return folder


@pytest.mark.parametrize("count, num_samples", [(1, 1), (1, 16000), (3, 7), (130, 4001)])
def test_clips_come_back(tmp_path, count, num_samples):
    path = tmp_path / "clips.arrow"
    with ClipWriter(path, num_samples) as writer:
        for samples in clips(count, num_samples):
            writer.add(samples)
        writer.finish()
    np.testing.assert_array_equal(read_clips(path), clips(count, num_samples))


def test_the_file_is_an_ordinary_hugging_face_table(tmp_path):
    folder = write_store(tmp_path / "store")
    table = datasets.Dataset.from_file(str(folder / "clips.arrow"))
    assert table.features == {"waveform": datasets.List(datasets.Value("int16"), length=7)}
    np.testing.assert_array_equal(table[3]["waveform"], clips(5, 7)[3])
    noise = datasets.Dataset.from_file(str(folder / "noise.arrow"))
    assert noise["name"][:] == ["hum.wav", "rain.wav"] and len(noise[1]["waveform"]) == 10


def test_the_file_is_what_pyarrow_itself_would_write(tmp_path):
    import pyarrow as pa
    values = pa.FixedSizeListArray.from_arrays(pa.array(clips(9, 5).ravel()), 5)
    batch = pa.RecordBatch.from_arrays([values], names=["waveform"])
    with pa.OSFile(str(tmp_path / "theirs"), "wb") as file, pa.ipc.new_stream(file, batch.schema) as stream:
        stream.write_batch(batch)
    with ClipWriter(tmp_path / "ours", 5) as writer:
        for samples in clips(9, 5):
            writer.add(samples)
        writer.finish()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_store_is_a_view_of_its_files(tmp_path):
    store = load_store(write_store(tmp_path / "store"))
    assert store.waveforms.shape == (5, 7) and store.waveforms.dtype == np.int16
    assert not store.waveforms.flags.owndata and not store.waveforms.flags.writeable
    assert {name: samples.tolist() for name, samples in store.noise.items()} == {
        "hum.wav": clips(1, 30)[0].tolist(), "rain.wav": clips(1, 10)[0].tolist()}
    assert store.labels == LABELS and store.sample_rate == 16000
    assert store.manifest.index.tolist() == list(range(5)) and store.manifest["num_samples"].dtype == np.int64


def test_a_store_without_noise(tmp_path):
    write_noise(tmp_path / "noise.arrow", [])
    assert read_noise(tmp_path / "noise.arrow") == {}


def test_an_unfinished_table_is_refused(tmp_path):
    with ClipWriter(tmp_path / "clips.arrow", 7) as writer:
        writer.add(clips(1, 7)[0])
    with pytest.raises(DataError) as caught:
        read_clips(tmp_path / "clips.arrow")
    assert caught.value.code == "bad_store"


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="run scripts/prepare.py") as caught:
        load_store(tmp_path / "store")
    assert caught.value.code == "no_store"


@pytest.mark.parametrize("name", ["store.json", "manifest.csv", "clips.arrow", "noise.arrow"])
@pytest.mark.parametrize("harm", ["missing", "empty", "half", "noise"])
def test_a_store_that_lost_something_is_refused(tmp_path, name, harm):
    path = write_store(tmp_path / "store", count=50, num_samples=400) / name
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[:len(content) // 2], "noise": b"\x07" * 500}[harm])
    with pytest.raises(DataError, match=r"scripts/prepare\.py") as caught:
        load_store(tmp_path / "store")
    assert caught.value.code == "bad_store" and "\n" not in str(caught.value)


def test_a_store_of_another_version_is_refused(tmp_path):
    index = write_store(tmp_path / "store") / "store.json"
    index.write_text(index.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(DataError, match="format 0; this program reads format 1"):
        load_store(tmp_path / "store")


@pytest.mark.parametrize("name, old, new", [("manifest.csv", "training", "testing"), ("store.json", "16000", "8000")])
def test_an_edited_store_is_refused(tmp_path, name, old, new):
    path = write_store(tmp_path / "store") / name
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match="do not belong together") as caught:
        load_store(tmp_path / "store")
    assert caught.value.code == "bad_store"


def test_clips_of_another_store_are_refused(tmp_path):
    write_store(tmp_path / "store")
    other = write_store(tmp_path / "other", count=4)
    (other / "clips.arrow").rename(tmp_path / "store" / "clips.arrow")
    with pytest.raises(DataError, match="5 clips in its manifest"):
        load_store(tmp_path / "store")


def test_a_bad_manifest_is_never_written(tmp_path):
    with pytest.raises(DataError) as caught:
        write_index(tmp_path, pd.DataFrame([("a",) * 8], columns=list(MANIFEST_COLUMNS)),
                    pd.DataFrame(columns=["path", "sha256"]), LABELS, 16000, 7)
    assert caught.value.code == "bad_manifest" and list(tmp_path.iterdir()) == []
