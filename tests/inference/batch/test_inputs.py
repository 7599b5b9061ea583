import os

import pandas as pd
import pytest

from kws.errors import DataError
from kws.inference.batch.inputs import list_inputs


def test_a_folder_is_searched_in_the_order_of_names(tmp_path):
    for name in ("b/2.WAV", "b/1.flac", "a.wav", "c.mp3", "notes.txt", "ü/x.ogg", "b.wav/inside.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "absent")
    listing = list_inputs(tmp_path)
    expected = ["a.wav", "c.mp3", "dangling.wav", "b/1.flac", "b/2.WAV", "b.wav/inside.wav", "ü/x.ogg"]
    assert [row.path for row in listing] == expected and listing.count == len(expected)
    assert not listing.has_targets
    assert [row.location for row in listing] == [tmp_path / path for path in expected]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_row(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.wav").touch()
    assert [row.path for row in list_inputs(tmp_path)] == ["a.wav", "closed"]


def test_a_file_is_one_row(tmp_path):
    (tmp_path / "noise.raw").touch()
    row, = list_inputs(tmp_path / "noise.raw")
    assert (row.path, row.location) == ("noise.raw", tmp_path / "noise.raw")


MANIFEST = [("a.wav", "yes"), ("Größe, «b».wav", "no"), ('with "quotes".wav', "null"), ("a.wav", ""), ("", "yes"),
            ("line\nbreak.wav", "no"), ("b.wav", " ")]
READ = [(path, label if label.strip() else None) for path, label in MANIFEST]  # a blank label is none


@pytest.mark.parametrize("dialect", [dict(), dict(encoding="utf-8-sig"), dict(lineterminator="\r\n")],
                         ids=["plain", "BOM", "CRLF"])
def test_a_csv_manifest_is_read_as_it_was_written(tmp_path, dialect):
    table = pd.DataFrame([(word, 7, path) for path, word in MANIFEST], columns=["label", "other", "path"])
    table.to_csv(tmp_path / "m.csv", index=False, **dialect)
    listing = list_inputs(tmp_path / "m.csv")
    assert [(row.path, row.target) for row in listing] == READ == [(row.path, row.target) for row in listing]
    assert listing.count == len(MANIFEST) and listing.has_targets
    assert next(iter(listing)).location == tmp_path / "a.wav"


def test_a_parquet_manifest_is_read_alike(tmp_path):
    pd.DataFrame(MANIFEST, columns=["path", "label"]).to_parquet(tmp_path / "m.parquet")
    assert [(row.path, row.target) for row in list_inputs(tmp_path / "m.parquet")] == READ


def test_rows_that_are_too_short_or_too_long_are_rows(tmp_path):
    (tmp_path / "m.csv").write_text("label,path\nyes\nno,a.wav,more\n\n")
    assert [(row.path, row.target) for row in list_inputs(tmp_path / "m.csv")] == [("", "yes"), ("a.wav", "no")]
    (tmp_path / "m.csv").write_text("path,label\na.wav\n")
    assert [(row.path, row.target) for row in list_inputs(tmp_path / "m.csv")] == [("a.wav", None)]


def test_an_empty_manifest_has_no_rows(tmp_path):
    (tmp_path / "m.csv").write_text("path\n")
    assert list_inputs(tmp_path / "m.csv").count == 0


@pytest.mark.parametrize("name, content, code", [
    ("m.csv", b"", "no_path_column"), ("m.csv", b"file,label\na.wav,yes\n", "no_path_column"),
    ("m.csv", b"path\n\xff\xfe.wav\n", "bad_manifest"), ("m.csv", b"path\n" + b"x" * 200_000, "bad_manifest"),
    ("m.parquet", b"PAR1 not", "bad_manifest"), ("m.parquet", b"", "bad_manifest")])
def test_a_manifest_that_cannot_be_used_is_explained(tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        list_inputs(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.parametrize("rows", [['"b.wav,yes', "c.wav,no"], ['"b.wav,yes', '"c.wav,no'], ['"b".wav,yes']])
def test_a_stray_quote_takes_no_rows_with_it_in_silence(tmp_path, rows):
    (tmp_path / "m.csv").write_text("\n".join(["path,label", "a.wav,yes", *rows]) + "\n")
    with pytest.raises(DataError, match="m.csv: not readable as CSV from line 3 on") as caught:
        list_inputs(tmp_path / "m.csv")
    assert caught.value.code == "bad_manifest"


def test_what_a_folder_holds_besides_is_counted_and_told(tmp_path, caplog):
    for name in ("a.wav", "b.xyz", "c.xyz", ".d.wav", "deeper/e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = list_inputs(tmp_path)
    assert [row.path for row in listing] == ["a.wav", "deeper/e.wav"]
    assert listing.passed_over == {".xyz": 2, "hidden": 1}
    assert f"{tmp_path}: 3 files were passed over: 2 .xyz, 1 hidden" in caplog.text
    (tmp_path / "a.wav").unlink()
    (tmp_path / "deeper" / "e.wav").unlink()
    with pytest.raises(DataError, match="4 files were passed over: 2 .xyz, 1 empty folder, 1 hidden"):
        list_inputs(tmp_path)


@pytest.mark.parametrize("on_disk, written", [
    ("wavs/a.wav", "wavs\\a.wav"), ("zwo\u0308lf.wav", "zw\u00f6lf.wav"), ("zw\u00f6lf.wav", "zwo\u0308lf.wav"),
    ("zwo\u0308lf/a.wav", "zw\u00f6lf\\a.wav"), ("b\\c.wav", "b\\c.wav")])
def test_a_manifest_may_come_from_another_system(tmp_path, on_disk, written):
    (tmp_path / on_disk).parent.mkdir(exist_ok=True)
    (tmp_path / on_disk).touch()
    (tmp_path / "m.csv").write_text(f"path\n{written}\n", encoding="utf-8")
    row, = list_inputs(tmp_path / "m.csv")
    assert row.path == written and row.location == tmp_path / on_disk


@pytest.mark.parametrize("path", ["nowhere\\a.wav", "ö.wav", "ö\0.wav", ""])
def test_a_path_that_leads_nowhere_is_a_row(tmp_path, path):
    pd.DataFrame({"path": [path]}).to_parquet(tmp_path / "m.parquet")
    row, = list_inputs(tmp_path / "m.parquet")
    assert row.path == path


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "m.csv").write_text("path,label,path\na.wav,yes,b.wav\n")
    with pytest.raises(DataError, match="2 columns called path"):
        list_inputs(tmp_path / "m.csv")


def test_what_is_absent_or_holds_no_audio_is_named(tmp_path):
    with pytest.raises(DataError, match="absent: no such file or folder"):
        list_inputs(tmp_path / "absent")
    with pytest.raises(DataError, match="no audio files"):
        list_inputs(tmp_path)
