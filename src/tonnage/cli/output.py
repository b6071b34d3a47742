"""Writing the answer to stdout."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write(text: str) -> None:
    """Writes `text` to stdout; a reader that has seen enough (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter complains once more when it flushes at exit; docs.python.org/3/library/signal.html
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_json(file: str, text: str) -> None:
    """Writes `text` to a file, whole or not at all; "-" is stdout."""
    if file == "-":
        write(f"{text}\n")
        return
    from tonnage.recording import whole_file

    with whole_file(Path(file)) as opened:
        opened.write(f"{text}\n".encode())
