"""Files on a real S3 server."""
import os

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from kws import KeywordSpotter
from kws.audio.folders import entries
from kws.errors import AudioError, DataError
from kws.files.places import is_remote, names_in, place, read_range, replaced, stamp
from kws.inference.batch.inputs import list_inputs

pytest.importorskip("upath")


def keys(bucket):
    return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=bucket[5:]).get("Contents", ())]


def test_a_path_stays_a_path(tmp_path):
    assert place(str(tmp_path)) == tmp_path == place(tmp_path) and not is_remote(tmp_path) and not is_remote("a")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_file_is_whole_or_what_it_was(bucket, tmp_path, where):
    path = place(f"{bucket}/folder/table.csv") if where == "elsewhere" else tmp_path / "folder/table.csv"
    with replaced(path) as file:
        file.write(b"first")
    assert read_range(path, 1, 4) == b"irs"
    before = stamp(path)
    with pytest.raises(KeyError), replaced(path) as file:
        file.write(b"second" * 2_000_000)  # more than S3 takes in one piece
        raise KeyError
    assert path.read_bytes() == b"first" and stamp(path) == before
    with replaced(path) as file:
        file.write(b"third")
    assert path.read_bytes() == b"third" and stamp(path) != before
    if where == "elsewhere":
        assert keys(bucket) == ["folder/table.csv"]
    else:
        assert os.listdir(tmp_path / "folder") == ["table.csv"]


def test_a_bucket_is_listed_as_a_folder_is(bucket, tmp_path):
    for name in ("b/2.WAV", "b/1.flac", "a.wav", "c.mp3", "notes.txt", "ü/x.ogg", "b.wav/inside.wav", ".hidden.wav",
                 "d/.e/f.wav"):
        for folder in (place(f"{bucket}/in"), tmp_path):
            path = folder / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(b"")
    listed = [(entry.path, entry.passed_over) for entry in entries(tmp_path)]
    assert [(entry.path, entry.passed_over) for entry in entries(place(f"{bucket}/in"))] == listed


def test_a_manifest_and_its_recordings_may_be_elsewhere(bucket, tmp_path, exported, tone, noise, wav_bytes):
    sound = wav_bytes(tone(300.0) + noise(1))
    (tmp_path / "here.wav").write_bytes(sound)
    place(f"{bucket}/wavs/one.wav").write_bytes(sound)
    place(f"{bucket}/wavs/empty.wav").write_bytes(b"")
    place(f"{bucket}/wavs/list.csv").write_text(f"path\none.wav\n{tmp_path}/here.wav\nempty.wav\nabsent.wav\n")
    spotter = KeywordSpotter(exported)
    rows = list(list_inputs(place(f"{bucket}/wavs/list.csv")))
    assert [row.path for row in rows] == ["one.wav", f"{tmp_path}/here.wav", "empty.wav", "absent.wav"]
    answers = spotter.classify([row.location for row in rows])
    assert [answer.code for answer in answers if isinstance(answer, AudioError)] == [
        "not_found", "empty_audio", "not_found"], "a path of this machine is none of the bucket"
    assert answers[0] == spotter(f"{bucket}/wavs/one.wav") == spotter(tmp_path / "here.wav")
    (tmp_path / "list.csv").write_text(f"path\n{bucket}/wavs/one.wav\nhere.wav\n")
    rows = list(list_inputs(tmp_path / "list.csv"))
    assert spotter.classify([row.location for row in rows]) == [answers[0], answers[0]]


def test_who_has_no_permission_is_told_where(bucket, s3_server, monkeypatch):
    place(f"{bucket}/wavs/a.wav").write_bytes(b"RIFF")
    requests.post(f"{s3_server}/moto-api/reset-auth", data="0")  # whoever asks from here on is nobody it knows
    try:
        for ask in (list_inputs, read_range, names_in):
            path = place(f"{bucket}/wavs")
            path.fs.invalidate_cache()
            with pytest.raises(DataError, match=f"{bucket}/wavs: cannot be reached: .*credentials") as caught:
                ask(path)
            assert caught.value.code == "unreachable"
        with pytest.raises(DataError, match="table.csv: cannot be reached"), replaced(path / "table.csv") as file:
            file.write(b"rows")
    finally:
        requests.post(f"{s3_server}/moto-api/reset-auth", data="inf")


def test_what_cannot_be_reached_is_said(bucket, monkeypatch, exported, tmp_path, tone, wav_bytes):
    (tmp_path / "list.csv").write_text(f"path\nnosuch://a/b.wav\n{bucket}/absent.wav\nhere.wav\n")
    (tmp_path / "here.wav").write_bytes(wav_bytes(tone(300.0)))
    rows = list(list_inputs(tmp_path / "list.csv"))
    answers = KeywordSpotter(exported).classify([row.location for row in rows])
    assert [answer.code for answer in answers[:2]] == ["unreadable", "not_found"] and answers[2].label
    assert "Unsupported filesystem" in str(answers[0]), "a bad address is its own row's trouble"
    assert [row.stamp() == "-" for row in rows] == [True, True, False]
    with pytest.raises(DataError, match="nosuch-bucket.*no such file or folder"):
        list_inputs(place("s3://nosuch-bucket/list.csv"))
    with pytest.raises(DataError, match="cannot be reached .Unsupported filesystem") as caught:
        place("nosuch://a/b")
    assert caught.value.code == "no_fsspec"
    recording = place(f"{bucket}/a.wav")
    recording.write_bytes(b"RIFF")

    def refuse(*_, **__):
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")

    monkeypatch.setattr(recording.fs, "cat_file", refuse)
    with pytest.raises(AudioError, match="a.wav: cannot be read") as failed:
        KeywordSpotter(exported)(recording)
    assert failed.value.code == "unreadable"
