"""The words of the structure page, in English and Chinese: one file for each language, the same keys and symbols.

`SENTENCES` are by the kinds of `analyses.components`, `DIFFERENCES` by those of `analyses.folding`, `WORDS` are the
headings and remarks of the page. What stands in braces is filled in by `fill`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tonnage.render.sentences import en, zh

LONG = 10_000
"""From here on numbers are written with commas; sizes of layers are below."""


@dataclass(frozen=True)
class Language:
    """The words of one language."""

    sentences: Mapping[str, str]
    differences: Mapping[str, str]
    words: Mapping[str, str]


LANGUAGES = {
    "en": Language(en.SENTENCES, en.DIFFERENCES, en.WORDS),
    "zh": Language(zh.SENTENCES, zh.DIFFERENCES, zh.WORDS),
}


def fill(template: str, **values: int | str) -> str:
    """`template` with the values in place.

    >>> fill("{rows} x {width} = {parameters}", rows=512, width=768, parameters=393216)
    '512 x 768 = 393,216'
    """
    return template.format(**{name: _written(value) for name, value in values.items()})


def _written(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= LONG else str(value)
