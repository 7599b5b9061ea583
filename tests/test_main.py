"""The command `kws` itself, as a process of its own where a shell meets it."""
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kws
from kws.__main__ import find_commands, main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED

KWS = [sys.executable, "-m", "kws"]


def test_alone_it_explains_itself(capsys):
    assert main([]) == EXIT_BAD_INPUT
    shown = capsys.readouterr().out
    for name, module in find_commands().items():
        assert f"\n  {name:<18}{module.__doc__.splitlines()[0]}\n" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_the_list_of_commands_is_a_line_for_each():
    assert {"predict", "prepare", "train", "evaluate", "export"} <= find_commands().keys()
    for module in find_commands().values():
        first, *others = module.__doc__.splitlines()
        assert len(first) <= 86 and first.endswith(".") and others[0] == "", first


@pytest.mark.parametrize("name", find_commands())
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: kws {name} ") and f"  kws {name} " in shown.partition("options:")[0]


def test_it_says_its_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"kws {kws.__version__}\n"


@pytest.mark.parametrize("typed, expected", [("predct", "did you mean `kws predict`?"), ("Train", "`kws train`?"),
                                             ("a.wav", "`kws --help` lists them")])
def test_a_command_that_is_none_is_told_from_its_neighbours(typed, expected, capsys):
    assert main([typed, "a.wav"]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith(f"error: kws {typed}: no such command; ") and expected in error


@pytest.mark.parametrize("arguments", [["-v"], ["train"], ["predict", "--threshold", "2"], ["predict", "--nonsense"]])
def test_wrong_arguments_are_bad_input(arguments, capsys):
    with pytest.raises(SystemExit, match=str(EXIT_BAD_INPUT)):
        main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: kws") and error.endswith("--help` explains\n") and error.count("\n") == 1


def completions(line, folder):
    """What argcomplete's shell function would get for what was typed so far."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n",
                   "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
                   "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "completions")}
    subprocess.run(KWS, env=environment, cwd=folder, check=True, capture_output=True)
    return [word.strip() for word in (folder / "completions").read_text().splitlines()]


def test_the_shell_completes_commands_options_choices_and_files(tmp_path):
    (tmp_path / "recording.wav").touch()
    assert completions("kws pre", tmp_path) == ["predict", "prepare"]
    assert completions("kws train --re", tmp_path) == ["--resume"]
    assert completions("kws predict --runtime ", tmp_path) == ["onnx", "torch"]
    assert completions("kws predict rec", tmp_path) == ["recording.wav"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_interrupted(tmp_path, sent, wav_bytes, noise):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(0)))
    (tmp_path / "list.csv").write_text("path\n" + "a.wav\n" * 100_000)
    process = subprocess.Popen([*KWS, "predict", "list.csv"], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert process.stdout.readline().endswith("a.wav\n")
    process.send_signal(sent)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == EXIT_INTERRUPTED and errors.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in errors


def test_a_reader_that_leaves_early_is_no_fault(tmp_path, wav_bytes, noise):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(0)))
    (tmp_path / "list.csv").write_text("path\n" + "a.wav\n" * 5_000)
    done = subprocess.run(f"{shutil.which('env')} PYTHONPATH={Path.cwd()} {' '.join(KWS)} predict list.csv | head -n 1",
                          shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.endswith("a.wav\n") and "Traceback" not in done.stderr and "error" not in done.stderr
