import argparse
import logging

import pytest

from kws.cli import EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, add_verbosity, guard, logger, start_logging
from kws.errors import AudioError, ConfigError, DataError


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
    (ConfigError("c.yaml", ["a: b", "c: d"]), EXIT_BAD_INPUT, "error: c.yaml: 2 problem(s)\n  a: b\n  c: d\n"),
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
    logging.getLogger("kws.training").info("epoch 1")
    assert capsys.readouterr().err == "" and "INFO kws.training: epoch 1" in path.read_text()


def test_starting_twice_does_not_log_twice(capsys):
    start_logging(1)
    start_logging(1)
    logger.info("once")
    assert capsys.readouterr().err == "once\n"


def test_verbosity_is_counted():
    parser = argparse.ArgumentParser()
    add_verbosity(parser)
    assert [parser.parse_args(argv).verbose for argv in ([], ["-v"], ["-vv"], ["-v", "--verbose"])] == [0, 1, 2, 2]
