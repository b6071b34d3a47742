"""What is said of a component, as data: a kind and its numbers, which `render.sentences` has words for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from tonnage.analyses.parts import Model, Part


class Explanation(Struct, frozen=True, kw_only=True):
    """What a component is and does: a `kind` of the sentences, and the numbers and words that stand in it."""

    kind: str
    numbers: dict[str, int | str]


Explainer: TypeAlias = Callable[[Part, Model], Explanation | None]


def said(kind: str, **numbers: int | str) -> Explanation:
    return Explanation(kind=kind, numbers=numbers)
