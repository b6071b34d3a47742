"""Text in lines of a given number of cells, English and Chinese alike.

Rich breaks at spaces alone, and Chinese has none: a line may end behind any of its characters, but none may begin with
a closing mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len

_WIDE = r"\u3000-\u9fff\uff00-\uffef"
_CLOSING = "，。；：、）”》"
_WORD = rf"[^\s{_WIDE}]+"
_PIECES = re.compile(rf"\s+|[{_WIDE}][{_CLOSING}]*|{_WORD}(?: (?:x|=|->|[+-]) {_WORD})*[{_CLOSING}]*")
"""What is not broken: words, Chinese characters, products and equations; closing marks stay with what they close."""


def wrap(text: str, width: int, *, indent: int = 0) -> list[str]:
    """`text` in lines of at most `width` cells, those after the first behind `indent` spaces.

    >>> wrap("a learned vector for each token", 12, indent=2)
    ['a learned', '  vector for', '  each token']

    A word wider than a line is cut.
    """
    lines = []
    line, space = "", ""
    for piece in _pieces(text, width - indent):
        if piece.isspace():
            space = " "
            continue
        if line.strip() and cell_len(line + space + piece) > width:
            lines.append(line)
            line, space = " " * indent, ""
        line += (space if line.strip() else "") + piece
        space = ""
        while cell_len(line) > width:
            head = _cut(line, width)
            lines.append(head)
            line = " " * indent + line[len(head) :]
    return [*lines, line]


def _pieces(text: str, width: int) -> Iterator[str]:
    for piece in _PIECES.findall(text):
        if cell_len(piece) <= width:
            yield piece
        else:
            yield from re.findall(r"\s+|\S+", piece)


def _cut(text: str, width: int) -> str:
    """As much of the beginning of `text` as fits `width` cells, and more than its spaces."""
    end = len(text)
    while cell_len(text[:end]) > width and text[: end - 1].strip():
        end -= 1
    return text[:end]
