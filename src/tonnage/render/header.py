"""What every page begins with."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from tonnage.render.notes import wrapped
from tonnage.render.text import Glyphs
from tonnage.report import Subject


def header(console: Console, subject: Subject, glyphs: Glyphs) -> Iterator[Text]:
    """What the subject is: its name, class and library, and where it was found."""
    name = glyphs.clean(subject.name)
    about = [glyphs.clean(part) for part in (subject.class_name, subject.library) if part and part != subject.name]
    title = f" {glyphs.dot} ".join([name, *about])
    for line in wrapped(console, title, console.width, most=2):
        yield Text(line, style="bold")
    for line in (
        wrapped(console, glyphs.clean(subject.description), console.width, most=1) if subject.description else ()
    ):
        yield Text(line)
