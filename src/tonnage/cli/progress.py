"""What is being done, on stderr, for anything that takes longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

PATIENCE = 1.0
"""Seconds before anything is said."""


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Gives a function to call with what is being done.

    After PATIENCE a terminal shows a spinner with the latest of it; anything else gets it as one line.
    """
    shown = _Shown()
    timer = threading.Timer(PATIENCE, shown.begin)
    timer.daemon = True
    timer.start()
    try:
        yield shown.say
    finally:
        timer.cancel()
        shown.end()


@contextmanager
def working_on(subject: str) -> Iterator[Callable[[str], None]]:
    """The same for one subject, whose own code may print: that goes to stderr too, as it is no part of the page."""
    with redirect_stdout(sys.stderr), progress() as say:
        say(f"{subject}: loading PyTorch")
        yield lambda stage: say(f"{subject}: {stage}")


class _Shown:
    """The latest stage, and the spinner once there is one; the timer's thread and the caller's both use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage = "working"
        self._update: Callable[[str], None] | None = None
        self._ended = False
        self._stack = ExitStack()

    def say(self, stage: str) -> None:
        with self._lock:
            self._stage = stage
            if self._update is not None:
                self._update(stage)

    def begin(self) -> None:
        with self._lock:
            if self._ended:
                return
            if sys.stderr.isatty():
                self._update = self._spin()
            else:
                print(f"tonnage: {self._stage}", file=sys.stderr, flush=True)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._stack.close()

    def _spin(self) -> Callable[[str], None]:
        from rich.text import Text

        from tonnage.render.text import console_for, glyphs_for

        console = console_for(sys.stderr)
        glyphs = glyphs_for(console.encoding)
        spinner = "dots" if glyphs.unicode else "line"
        status = self._stack.enter_context(console.status(Text(glyphs.clean(self._stage)), spinner=spinner))
        return lambda stage: status.update(Text(glyphs.clean(stage)))
