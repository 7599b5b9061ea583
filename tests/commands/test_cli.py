import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kws.commands.cli import (EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, add_verbosity, guard, logger,
                              start_logging, within)
from kws.errors import AudioError, ConfigError, DataError
from kws.inference.cores import available_cores

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quiet_again():
    """Leave the package's logger as it was found."""
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def failing(error):
    def main(argv=None):
        raise error
    return main


def test_what_main_returns_is_the_exit_code():
    assert guard(lambda argv: 3) == 3
    assert guard(lambda argv: len(argv), ["a", "b"]) == 2


@pytest.mark.parametrize("error, code, message", [
    (DataError("data: no such folder"), EXIT_BAD_INPUT, "error: data: no such folder\n"),
    (AudioError("a.wav: 0 bytes", "empty_audio"), EXIT_BAD_INPUT, "error: a.wav: 0 bytes\n"),
    (ConfigError("c.yaml", ["a: b", "c: d"]), EXIT_BAD_INPUT, "error: c.yaml: 2 problems\n  a: b\n  c: d\n"),
    (ConfigError("c.yaml", ["a: b"]), EXIT_BAD_INPUT, "error: c.yaml: a: b\n"),
    (FileNotFoundError(2, "No such file or directory", "a.txt"), EXIT_BAD_INPUT,
     "error: a.txt: No such file or directory\n"),
    (OSError("broken"), EXIT_BAD_INPUT, "error: broken\n"),
    (OSError(28, "No space left on device"), EXIT_BAD_INPUT, "error: No space left on device\n"),
    (KeyboardInterrupt(), EXIT_INTERRUPTED, "error: interrupted\n"),
    (ZeroDivisionError("division by zero"), EXIT_BUG,
     "error: internal error: ZeroDivisionError: division by zero (-vv shows where)\n"),
    (BrokenPipeError(), EXIT_OK, ""),
], ids=lambda value: type(value).__name__)
def test_every_fault_is_a_message_and_a_code(capsys, error, code, message):
    assert guard(failing(error)) == code
    assert capsys.readouterr().err == message


def test_leaving_on_purpose_is_not_a_fault():
    with pytest.raises(SystemExit):
        guard(failing(SystemExit(0)))


@pytest.mark.parametrize("verbose, shown", [(0, "warning\n"), (1, "info\nwarning\n"), (2, "debug\ninfo\nwarning\n"),
                                            (9, "debug\ninfo\nwarning\n")])
def test_verbosity(capsys, verbose, shown):
    start_logging(verbose)
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger("kws.data"), level)(level)
    assert capsys.readouterr().err == shown


def test_a_bug_shows_its_traceback_only_when_asked(capsys):
    for verbose, shown in ((1, False), (2, True)):
        start_logging(verbose)
        guard(failing(ZeroDivisionError("x")))
        assert ("Traceback" in capsys.readouterr().err) is shown


def test_a_log_file_has_what_the_terminal_leaves_out(tmp_path, capsys):
    path = tmp_path / "logs" / "run.log"
    start_logging(0, path)
    logging.getLogger("kws.training.trainer").info("epoch 1")
    assert capsys.readouterr().err == "" and "INFO kws.training.trainer: epoch 1" in path.read_text()


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("error, has_traceback", [(DataError("data: no such folder"), True),
                                                  (OSError(28, "No space left on device"), True),
                                                  (ZeroDivisionError("half way"), True), (KeyboardInterrupt(), False)],
                         ids=lambda value: type(value).__name__)
def test_a_log_file_tells_how_it_ended(tmp_path, capsys, verbose, error, has_traceback):
    path = tmp_path / "run.log"

    def main(argv):
        start_logging(verbose, path)
        raise error
    guard(main)
    console, log = capsys.readouterr().err, path.read_text()
    assert (getattr(error, "strerror", None) or str(error) or "interrupted") in log
    assert ("Traceback (most recent call last)" in log and "in main" in log) is has_traceback
    assert ("Traceback" in console) is (has_traceback and verbose == 2)
    assert verbose == 2 or (console.startswith("error: ") and console.count("\n") == 1)
    assert log.count(" ERROR kws: ") == 1


def test_a_training_that_fails_says_why_in_its_log(tmp_path):
    (tmp_path / "runs").mkdir()
    command = [sys.executable, ROOT / "scripts/train.py", ROOT / "configs/kws.yaml", "--set", "tracking.enabled=false",
               "--set", f"architecture={ROOT}/configs/arch/nano.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True)
    log = (tmp_path / "runs/kws.log").read_text()
    assert done.returncode == EXIT_BAD_INPUT
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert done.stderr.removeprefix("error: ").strip() in log and "Traceback" in log and "trainer.py" in log


def test_a_log_file_takes_every_name(tmp_path):
    start_logging(0, tmp_path / "run.log")
    logger.info("%s", os.fsdecode(b"caf\xe9.wav"))
    assert "caf\\udce9.wav" in (tmp_path / "run.log").read_text()


def test_no_encoding_of_the_terminal_is_a_fault():
    code = ("import os, sys; from kws.commands.cli import guard, logger, start_logging\n"
            "def main(argv):\n    start_logging(1)\n    print('zwölf', os.fsdecode(b'\\xe9'))\n    logger.info('ö')\n"
            "    return 3\n"
            "sys.exit(guard(main))")
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT,
                              env={**os.environ, "PYTHONIOENCODING": encoding})
        assert (done.returncode, done.stdout.count(b"\n"), done.stderr.count(b"\n")) == (3, 1, 1), done.stderr
        assert done.stdout.rstrip().endswith(b"\\udce9")


def test_starting_twice_does_not_log_twice(capsys):
    start_logging(1)
    start_logging(1)
    logger.info("once")
    assert capsys.readouterr().err == "once\n"


def test_verbosity_is_counted():
    parser = argparse.ArgumentParser()
    add_verbosity(parser)
    assert [parser.parse_args(argv).verbose for argv in ([], ["-v"], ["-vv"], ["-v", "--verbose"])] == [0, 1, 2, 2]


def test_cores_follow_the_affinity():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("groups, files, expected", [
    ("0::/\n", {"cpu.max": "max 100000"}, 64),
    ("0::/\n", {"cpu.max": "200000 100000"}, 2),
    ("0::/job/step\n", {"job/cpu.max": "150000 100000", "job/step/cpu.max": "max 100000"}, 2),
    ("0::/job\n", {"job/cpu.max": "1000 100000"}, 1),
    ("0::/named/by/the/host\n", {"cpu.max": "300000 100000"}, 3),
    ("3:cpu,cpuacct:/\n2:memory:/\n0::/\n",
     {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ("3:cpu,cpuacct:/docker/1\n",
     {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
    ("2:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "1"}, 64),
    ("0::/\n", {"cpu.max": "nonsense"}, 64),
    (None, {}, 64),
])
def test_cores_follow_the_quota(tmp_path, monkeypatch, groups, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    if groups is not None:
        (tmp_path / "groups").write_text(groups)
    assert available_cores(tmp_path / "groups", tmp_path) == expected


@pytest.mark.parametrize("kind, text, value", [(int, "1", 1), (int, "1000", 1000), (float, "0.3", 0.3),
                                               (float, "1", 1.0)])
def test_a_number_within_its_range_is_read(kind, text, value):
    assert within(kind, 0.3, 1000)(text) == value and type(within(kind, 0.3, 1000)(text)) is kind


@pytest.mark.parametrize("kind, text", [(int, "0"), (int, "-1"), (int, "1.5"), (int, "x"), (int, ""), (float, "0.2"),
                                        (float, "nan"), (float, "inf"), (float, "x")])
@pytest.mark.parametrize("most, told", [((1000,), "0.3 to 1,000"), ((), "0.3 or more")])
def test_other_numbers_are_refused_with_what_was_expected(kind, text, most, told):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        within(kind, 0.3, *most)(text)
    assert str(caught.value) == f"{text}: expected {'a whole number' if kind is int else 'a number'}, {told}"
