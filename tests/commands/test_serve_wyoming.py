"""What the command for Home Assistant refuses before it serves."""
import socket
import sys
from pathlib import Path

import onnx
import pytest

from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT
from kws.model.folder import ONNX_FILE, SHIPPED, STREAM_FILE


@pytest.mark.parametrize("uri", ["0.0.0.0:10400", "tcp://0.0.0.0", "tcp://:10400", "unix:///run/kws", "stdio://", "",
                                 "tcp://localhost:0", "tcp://localhost:99999", "tcp://localhost:x", "tcp://a:1/b"])
def test_what_is_no_address_is_refused(uri, capsys):
    with pytest.raises(SystemExit, match=str(EXIT_BAD_INPUT)):
        main(["serve-wyoming", f"--uri={uri}"])
    assert "expected tcp://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_service_has_connections(number, capsys):
    with pytest.raises(SystemExit, match=str(EXIT_BAD_INPUT)):
        main(["serve-wyoming", f"--max-connections={number}"])
    assert "--max-connections" in capsys.readouterr().err


def test_an_address_that_is_taken_is_one_line(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve-wyoming", "--uri", f"tcp://127.0.0.1:{port}"]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert str(port) in said and "in use" in said and len(said.splitlines()) == 1


def test_the_missing_package_is_named(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("kws.inference.wyoming")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wyoming.server", None)
    assert main(["serve-wyoming"]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == (
        "error: this needs the package wyoming, which is not installed: pip install 'kws[wyoming]'\n")


def test_zeroconf_is_a_package_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve-wyoming", "--zeroconf"]) == EXIT_BAD_INPUT
    assert "pip install zeroconf" in capsys.readouterr().err


def test_models_that_hear_no_many_sounds_are_refused(tmp_path: Path, capsys):
    assert main(["serve-wyoming", "--model", str(tmp_path)]) == EXIT_BAD_INPUT
    assert f"{tmp_path / STREAM_FILE}: no such file" in capsys.readouterr().err
    (tmp_path / STREAM_FILE).write_bytes((SHIPPED / ONNX_FILE).read_bytes())
    assert main(["serve-wyoming", "--model", str(tmp_path)]) == EXIT_BAD_INPUT
    assert "expected a file that `kws export` wrote" in capsys.readouterr().err
    proto = onnx.load(SHIPPED / STREAM_FILE)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / STREAM_FILE)
    assert main(["serve-wyoming", "--model", str(tmp_path)]) == EXIT_BAD_INPUT
    assert "hears one sound at a time; `kws export`" in capsys.readouterr().err
