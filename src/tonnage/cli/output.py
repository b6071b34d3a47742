"""Writing the answer to stdout."""

from __future__ import annotations

import os
import sys


def write(text: str) -> None:
    """Writes `text` to stdout; a reader that has seen enough (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter complains once more when it flushes at exit; docs.python.org/3/library/signal.html
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
