from __future__ import annotations

import io
import sys
import threading

import pytest

from tonnage.cli.progress import progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def begun(monkeypatch):
    """A timer that is over when the test says so, and not by the clock."""
    timers = []

    class Timer:
        daemon = False

        def __init__(self, seconds, function):
            self.function = function
            timers.append(self)

        def start(self):
            pass

        def cancel(self):
            pass

    monkeypatch.setattr(threading, "Timer", Timer)
    return lambda: timers[0].function()


def test_what_is_quick_says_nothing(begun, capsys):
    with progress() as say:
        say("forward done")
    assert capsys.readouterr() == ("", "")


def test_a_file_gets_one_line_with_the_latest_stage(begun, capsys):
    with progress() as say:
        say("looking for the model")
        say("forward done")
        begun()
        say("backward done")
    assert capsys.readouterr() == ("", "tonnage: forward done\n")


def test_a_terminal_gets_a_spinner_that_is_gone_at_the_end(begun, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress() as say:
        say("forward done")
        begun()
        say("[bold]backward[/] done")
    assert "[bold]backward[/] done" in stream.getvalue()
    shown, hidden = stream.getvalue().rfind("\x1b[?25h"), stream.getvalue().rfind("\x1b[?25l")
    assert shown > hidden >= 0  # the cursor is back


def test_nothing_begins_after_the_end(begun, capsys):
    with progress():
        pass
    begun()
    assert capsys.readouterr() == ("", "")


def test_an_error_ends_it_too(begun, capsys):
    with pytest.raises(KeyboardInterrupt), progress():
        raise KeyboardInterrupt
    begun()
    assert capsys.readouterr() == ("", "")
