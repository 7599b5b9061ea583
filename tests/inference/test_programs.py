"""Programs that are started for detections: in order, without a shell, and whatever they do, the listening goes on."""
import logging
import subprocess
import sys
import time

import pytest

from kws.errors import DataError
from kws.inference.programs import Programs


def test_arguments_are_filled_in_and_never_split(tmp_path):
    script = f"import sys; open({str(tmp_path / 'out')!r}, 'a').write(repr(sys.argv[1:]))"
    programs = Programs(f"'{sys.executable}' -c \"{script}\" '{{word}} at {{time_s}}' {{else}} '$HOME'")
    programs.start({"word": "a'; touch b; '", "time_s": 1.25})
    programs.finish()
    assert (tmp_path / "out").read_text() == repr(["a'; touch b; ' at 1.25", "{else}", "$HOME"])


def test_they_run_one_after_the_other(tmp_path):
    out = tmp_path / "out"
    programs = Programs(f"sh -c 'echo start {{word}} >> {out}; sleep 0.1; echo end {{word}} >> {out}'")
    for word in "abc":
        programs.start({"word": word})
    programs.finish()
    assert out.read_text().split() == "start a end a start b end b start c end c".split()


@pytest.mark.parametrize("command, said", [
    ("/no/such/{word}", "/no/such/etc: cannot be started: No such file or directory"),
    ("/{word}", "/etc: cannot be started: Permission denied"),
    ("sh -c 'exit 3'", "sh: failed with exit code 3"), ("sh -c 'kill -9 $$'", "sh: was ended by signal 9"),
    ("sleep 60", "sleep: did not end within 0.3 s; it was killed")])
def test_every_failure_is_one_line_and_the_next_one_is_tried(command, said, caplog):
    programs = Programs(command, timeout_seconds=0.3)
    programs.start({"word": "etc"})
    programs.start({"word": "etc"})
    programs.finish()
    assert [record.getMessage() for record in caplog.records] == [said, said]


def test_a_program_that_hangs_is_killed_with_its_children():
    programs = Programs("sh -c 'sleep 4321 & sleep 4321'", timeout_seconds=0.3)
    programs.start({})
    programs.finish()
    assert subprocess.run(["pgrep", "-f", "^sleep 4321"], capture_output=True).returncode == 1


def test_starting_never_waits_and_too_many_are_told(caplog):
    programs = Programs("sleep 30")
    began = time.monotonic()
    for number in range(40):
        programs.start({"word": str(number)})
    programs.stop()
    assert time.monotonic() - began < 5
    assert len(caplog.records) in (23, 24) and "16 detections wait" in caplog.text  # one was taken from the queue
    assert "signal" not in caplog.text, "what we end is no failure"


@pytest.mark.parametrize("command", [
    "", "  ", "sh 'open", "/no/such/program {word}", "no-such-program", "/etc", "/etc/passwd"])
def test_what_is_no_command_is_refused(command):
    with pytest.raises(DataError) as error:
        Programs(command)
    assert error.value.code == "bad_command"


def test_it_cannot_take_our_standard_input(caplog):
    programs = Programs("cat", timeout_seconds=5)
    programs.start({})
    with caplog.at_level(logging.DEBUG):
        programs.finish()
    assert not caplog.records
