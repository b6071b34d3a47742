"""Writes what the commands on pages of docs print, each below its command: `python docs/command_output.py`.

A block of a page that starts with ```text and `$ ` holds one command or several, `tonnage ...` or `cat FILE`; a
backslash continues a line, and `> /dev/null` shows nothing. They run in a folder of their own, from which docs/ can be
seen.
"""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from tonnage.cli import main
from tonnage.errors import EXIT_NOT_DONE

DOCS = Path(__file__).parent
PAGES = ("closed-forms.md", "compare.md", "derivations.md", "params.md", "snapshots.md", "zh/params.md")
BLOCK = re.compile(r"^```text\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (?:.*\\\n)*.*\n", re.MULTILINE)
TERMINAL = {"COLUMNS": "80", "NO_COLOR": "1"}


def page(text: str) -> str:
    """`text` with what stands below each command replaced by what it prints now."""
    with _folder(), patch.dict(os.environ, TERMINAL):
        return BLOCK.sub(_block, text)


def printed(command: str) -> str:
    """What `command`, as a page shows it, writes to stdout."""
    program, *arguments = shlex.split(command.removeprefix("$ ").replace("\\\n", " "))
    shown = arguments[-2:] != [">", "/dev/null"]
    arguments = arguments if shown else arguments[:-2]
    if program == "cat":
        return "".join(Path(file).read_text("utf-8") for file in arguments)
    assert program == "tonnage", f"no other program is run: {command}"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    with redirect_stdout(stream):
        code = main(arguments)
    assert code != EXIT_NOT_DONE, f"could not be done as asked: {command}"
    return stream.buffer.getvalue().decode() if shown else ""


def _block(found: re.Match[str]) -> str:
    shown = "".join(f"{command}{printed(command)}" for command in COMMAND.findall(found[1]))
    return f"```text\n{shown}```"


@contextmanager
def _folder() -> Iterator[None]:
    """Runs the block in a new folder with a link to docs/ in it."""
    before = Path.cwd()
    with TemporaryDirectory() as folder:
        Path(folder, "docs").symlink_to(DOCS, target_is_directory=True)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


if __name__ == "__main__":
    for name in PAGES:
        file = DOCS / name
        file.write_text(page(file.read_text("utf-8")), "utf-8")
