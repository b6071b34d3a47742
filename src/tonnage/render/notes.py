"""Paragraphs with a label, and lists of remarks cut to a few lines; what is cut is said."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

LABEL = 13
"""Cells of the column that says what a paragraph is about."""


def paragraph(console: Console, label: str, lines: Sequence[str | Text]) -> None:
    """Prints `lines`, the first of them behind `label`."""
    grid = Table.grid(padding=0)
    grid.add_column(width=LABEL, no_wrap=True)
    grid.add_column(width=console.width - LABEL, overflow="fold")
    for number, line in enumerate(lines):
        grid.add_row(Text("" if number else label, style="bold"), line)
    console.print(grid)


def wrapped(console: Console, text: str, width: int, *, most: int) -> list[str]:
    """`text` in at most `most` lines of `width` cells; "..." stands for what does not fit."""
    lines = [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]
    if len(lines) <= most:
        return lines
    last = Text(lines[most - 1])
    last.truncate(width - 3, overflow="crop")
    return [*lines[: most - 1], last.plain.rstrip() + "..."]


def listed(console: Console, items: Sequence[str], width: int, *, most: int) -> list[str]:
    """Each item on a line of its own, wrapped; in at most `most` lines, the last of which counts the items left out."""
    lines: list[str] = []
    for number, item in enumerate(items):
        left = most - len(lines) - (number < len(items) - 1)
        if left < 1:
            return [*lines, f"and {len(items) - number} more; --json FILE has all"]
        lines += wrapped(console, item, width, most=left)
    return lines
