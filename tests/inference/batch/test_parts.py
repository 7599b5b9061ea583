"""A table in parts: the same rows as in one piece, whatever happened on the way."""
import os
import shutil
from dataclasses import asdict, replace

import pandas as pd
import pytest

from kws import KeywordSpotter
from kws.errors import DataError
from kws.files.places import names_in, place
from kws.inference.batch import parts
from kws.inference.batch.cluster import PartLabeller
from kws.inference.batch.columns import FORMATS, TableColumns
from kws.inference.batch.inputs import list_inputs
from kws.inference.batch.labelling import predict
from kws.inference.batch.parts import PartsFolder
from kws.inference.batch.summary import Summary
from kws.inference.batch.table import ResumableTable


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "_LEAST_ROWS", 3)


@pytest.fixture
def listing(tmp_path, tone, noise, wav_bytes):
    """Ten rows with labels: good ones, a long one, bad ones, and names that need care."""
    folder = tmp_path / "wavs"
    folder.mkdir()
    names = ["a.wav", "with, comma.wav", "ü ß.wav", 'with "quotes".wav', "=1+1.wav", "null", "long.wav"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(wav_bytes(tone(200.0 + 50 * number, 3.0 if "long" in name else 1.0)))
    (folder / "empty.wav").write_bytes(b"")
    pd.DataFrame({"path": [*names, "empty.wav", "absent.wav", "a.wav"], "label": ["yes", "no"] * 5}).to_csv(
        folder / "list.csv", index=False)
    return list_inputs(folder / "list.csv")


@pytest.fixture
def folder(tmp_path, exported):
    def make(kind="csv", **settings):
        settings = {"model": KeywordSpotter(exported).digest, **settings}
        return PartsFolder(tmp_path / "parts", kind, **settings)
    return make


def label_all(folder, listing, exported, resume=False, home=None):
    """Label the parts, the last one first; return their names and the summary."""
    work = folder.begin(listing, exported, resume)
    home = (home or folder.path.parent) / "model"
    home.mkdir(exist_ok=True)
    spotter = KeywordSpotter(folder.unpack_model(home), threads=1)
    done = {part.number: folder.label(part, spotter, 2) for part in reversed(work)}
    summary = Summary(spotter.labels)
    for number in done:
        summary.merge(done[number][1])
    names = [done[number][0] for number in sorted(done)]
    folder.finish(names)
    return names, summary


@pytest.fixture
def whole(tmp_path, exported, listing):
    """The table in one piece."""
    def write(kind):
        spotter, path = KeywordSpotter(exported), tmp_path / f"whole.{kind}"
        summary = predict(spotter, listing, ResumableTable(path, spotter.labels, kind))
        return path, summary
    return write


@pytest.mark.parametrize("kind", FORMATS)
def test_joined_parts_are_the_table_of_one_piece(folder, listing, exported, whole, tmp_path, kind):
    path, expected = whole(kind)
    names, summary = label_all(folder(), listing, exported)
    assert len(names) == 4
    folder().join(names, TableColumns(KeywordSpotter(exported).labels), tmp_path / f"joined.{kind}", kind)
    assert (tmp_path / f"joined.{kind}").read_bytes() == path.read_bytes()
    assert summary.text().splitlines()[1:] == expected.text().splitlines()[1:], "all but the speed"


def test_a_labeller_leaves_nothing_behind_although_ray_kills_it(folder, listing, exported, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    table = folder()
    labeller = PartLabeller(table, None, 2)
    work = table.begin(listing, exported, False)
    assert all((table.path / labeller(asdict(part))["name"]).is_file() for part in work)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_parts_that_are_there_are_kept_and_counted(folder, listing, exported, kind):
    table = folder(kind, top_k=2)
    names, expected = label_all(table, listing, exported)
    before = {name: os.stat(table.path / name).st_mtime_ns for name in names}
    (table.path / names[2]).unlink()
    again, summary = label_all(table, listing, exported, resume=True)
    assert again == names and summary.text() == expected.text()
    assert [name for name in names if os.stat(table.path / name).st_mtime_ns != before[name]] == [names[2]]
    fresh, _ = label_all(table, listing, exported)
    assert fresh == names and all(os.stat(table.path / name).st_mtime_ns != before[name] for name in names)


@pytest.mark.parametrize("kind", FORMATS)
def test_parts_with_a_name_that_is_not_utf8_are_kept(folder, listing, exported, tmp_path, kind):
    os.rename(tmp_path / "wavs/a.wav", os.fsencode(tmp_path / "wavs/a") + b"\xff.wav")
    names, expected = label_all(folder(kind), list_inputs(tmp_path / "wavs"), exported)
    again, summary = label_all(folder(kind), list_inputs(tmp_path / "wavs"), exported, resume=True)
    assert again == names and summary.text() == expected.text()


def test_a_model_without_a_date_is_packed(folder, listing, exported, tmp_path):
    """As in images that are built to be the same every time; a ZIP file knows no year before 1980."""
    model = shutil.copytree(exported, tmp_path / "dateless")
    for path in model.iterdir():
        os.utime(path, (0, 0))
    assert len(label_all(folder(), listing, model)[0]) == 4


def test_a_part_of_recordings_that_were_changed_is_written_again(folder, listing, exported, tmp_path, wav_bytes, noise):
    names, _ = label_all(folder(), listing, exported)
    (tmp_path / "wavs/ü ß.wav").write_bytes(wav_bytes(noise(5)))
    again, _ = label_all(folder(), listing, exported, resume=True)
    assert [new == old for new, old in zip(again, names)] == [False, True, True, True]
    assert not (folder().path / names[0]).exists()


def test_detections_are_joined(folder, listing, exported, tmp_path):
    table = folder("parquet", detections=True)
    names, _ = label_all(table, listing, exported)
    table.join_detections(names, tmp_path / "words.csv")
    columns = ["path", "word", "start_s", "end_s", "time_s", "confidence"]
    assert list(pd.read_csv(tmp_path / "words.csv").columns) == columns


def test_what_another_run_began_is_not_resumed(folder, listing, exported):
    label_all(folder(), listing, exported)
    before = sorted(os.listdir(folder().path))
    for other, told in ((folder(model="another"), "model .*, now another"),
                        (folder(threshold=0.5), "threshold 0.0, now 0.5"),
                        (folder("parquet"), "kind csv, now parquet")):
        with pytest.raises(DataError, match=told) as caught:
            other.begin(listing, exported, resume=True)
        assert caught.value.code == "other_table" and sorted(os.listdir(folder().path)) == before


def test_a_folder_of_others_is_left_alone(folder, listing, exported):
    folder().path.mkdir()
    (folder().path / "thesis.txt").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(DataError, match="holds other files"):
            folder().begin(listing, exported, resume)
    assert os.listdir(folder().path) == ["thesis.txt"]


def test_what_others_put_beside_the_parts_stays(folder, listing, exported):
    label_all(folder(), listing, exported)
    (folder().path / "notes.txt").write_text("which room this was")
    (folder().path / ".part-000000-0123456789abcdef.csv.01234567.new").write_text("of a writer that was killed")
    for resume in (True, False):
        names, _ = label_all(folder(), listing, exported, resume)
        assert sorted(os.listdir(folder().path)) == sorted(["_table.json", "notes.txt", *names])
    folder().remove()
    assert os.listdir(folder().path) == ["notes.txt"]


def test_a_state_that_is_damaged_is_not_resumed(folder, listing, exported):
    label_all(folder(), listing, exported)
    for damaged in ("", "[1", "[1]", "null"):
        (folder().path / "_table.json").write_text(damaged)
        with pytest.raises(DataError, match="_table.json: does not say what parts belongs to") as caught:
            folder().begin(listing, exported, resume=True)
        assert caught.value.code == "other_table"


def test_parts_and_table_may_be_elsewhere(folder, listing, exported, whole, bucket):
    pytest.importorskip("upath")
    path, _ = whole("parquet")
    parts_elsewhere = replace(folder(), path=place(f"{bucket}/table.parts"))
    names, _ = label_all(parts_elsewhere, listing, exported, home=folder().path.parent)
    again, _ = label_all(parts_elsewhere, listing, exported, resume=True, home=folder().path.parent)
    assert again == names
    table = place(f"{bucket}/table.parquet")
    parts_elsewhere.join(names, TableColumns(KeywordSpotter(exported).labels), table, "parquet")
    assert table.read_bytes() == path.read_bytes()
    parts_elsewhere.remove()
    assert names_in(place(bucket)) == ["table.parquet"]


def test_parts_that_do_not_arrive_are_missed(folder, listing, exported):
    names, _ = label_all(folder(), listing, exported)
    (folder().path / names[1]).unlink()
    with pytest.raises(DataError, match=f"1 parts are not there, {names[1]}") as caught:
        folder().finish(names)
    assert caught.value.code == "not_shared"


def test_a_part_that_ends_its_process_again_and_again_is_given_up(folder, listing, exported):
    """As where memory is short: nobody is left to say so."""
    work = folder().begin(listing, exported, resume=False)
    spotter = KeywordSpotter(exported)

    def killed(*_, **__):
        raise KeyboardInterrupt

    classify, spotter.classify = spotter.classify, killed
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            folder().label(work[1], spotter, 2)
    spotter.classify = classify
    with pytest.raises(DataError, match="part 1 ended its process 4 times.*memory"):
        folder().label(work[1], spotter, 2)
    label_all(folder(), listing, exported, resume=True)
    assert not [name for name in os.listdir(folder().path) if name.startswith("_attempt")]
