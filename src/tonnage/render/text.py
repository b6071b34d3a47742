"""Characters that a stream can show, and user text made safe to print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO

from rich.console import Console


@dataclass(frozen=True)
class Glyphs:
    """What is drawn with, in the encoding it is for."""

    encoding: str
    unicode: bool = False

    @property
    def bar(self) -> str:
        return "█" if self.unicode else "#"

    @property
    def dot(self) -> str:
        return "·" if self.unicode else "-"

    @property
    def tick(self) -> str:
        return "✓" if self.unicode else "ok"

    @property
    def cross(self) -> str:
        return "✗" if self.unicode else "WRONG"

    @property
    def times(self) -> str:
        return "×" if self.unicode else "x"

    def clean(self, text: str) -> str:
        """`text` on one line, without control characters, and in characters that the encoding has.

        The multiplication sign, which our own texts use, becomes an x rather than an escape.

        >>> Glyphs("ascii").clean("a\\x1b[31m naïve\\nname")
        'a\\\\x1b[31m na\\\\xefve\\\\nname'
        """
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        if not self.unicode:
            shown = shown.replace("×", "x")
        return shown.encode(self.encoding, "backslashreplace").decode(self.encoding)


def glyphs_for(encoding: str) -> Glyphs:
    """The glyphs for a stream of this encoding: plain ASCII unless it is some Unicode."""
    return Glyphs(encoding, unicode=encoding.lower().startswith("utf"))


def bar(share: float, width: int, glyphs: Glyphs) -> str:
    """A bar of `share` (0 to 1) of `width`; anything above nothing shows.

    >>> bar(0.5, 8, Glyphs("ascii")), bar(0.001, 8, Glyphs("ascii")), bar(0, 8, Glyphs("ascii"))
    ('####', '#', '')
    """
    return glyphs.bar * (max(1, round(share * width)) if share > 0 else 0)


def shortened(path: str, room: int) -> str:
    """The end of a path, which says most.

    >>> shortened("encoder.layer.{0-11}.output.dense", 24)
    '...r.{0-11}.output.dense'
    """
    return path if len(path) <= room else f"...{path[3 - room :]}"


def console_for(stream: IO[str], *, width: int | None = None) -> Console:
    """A console that takes text as it is: no markup, no emoji codes, nothing highlighted."""
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def without_trailing_spaces(text: str) -> str:
    """`text` as a person would have typed it; rich fills every line to the width."""
    return re.sub(r" +$", "", text, flags=re.MULTILINE)
