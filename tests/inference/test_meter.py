"""The line on the terminal."""
import io
import logging

import numpy as np

from kws.inference.meter import Meter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_drawn_where_there_is_no_terminal():
    file = io.StringIO()
    meter = Meter(file)
    meter.show(np.ones(100), 1.0, ("go", 0.5))
    meter.clear()
    assert file.getvalue() == ""


def test_level_and_nearest_word_are_shown_on_one_line():
    terminal = Terminal()
    meter = Meter(terminal)
    meter.show(np.full(100, 0.1), 61.25, ("go", 0.123))
    shown = terminal.getvalue()
    assert shown.startswith("\r\x1b[K") and "\n" not in shown
    assert "61.2 s" in shown and "-20 dB" in shown and "go" in shown and "12.3%" in shown and f"[{'#' * 13} " in shown


def test_it_is_not_redrawn_for_every_block():
    terminal = Terminal()
    meter = Meter(terminal)
    for number in range(1000):
        meter.show(np.zeros(10), number / 100, ("go", 0.1))
    assert terminal.getvalue().count("\r") < 20


def test_messages_get_a_clear_line():
    terminal = Terminal()
    meter = Meter(terminal)
    meter.show(np.zeros(10), 0.0, ("go", 0.1))
    assert meter.filter(logging.makeLogRecord({})) and terminal.getvalue().endswith("\r\x1b[K")
