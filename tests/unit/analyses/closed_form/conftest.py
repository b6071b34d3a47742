"""Models made by hand: tables of names and shapes that follow sizes by formulas which stand beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import pytest

Table = dict[str, tuple[int, ...]]


class Toy:
    """`table` makes the shapes from all sizes, or is None where it cannot; `asked` counts how often it was."""

    def __init__(self, sizes: Mapping[str, int], table: Callable[[Any], Table | None]) -> None:
        self.sizes = dict(sizes)
        self.table = table
        self.asked = 0

    def ask(self, changes: Mapping[str, int]) -> Table | None:
        self.asked += 1
        return self.table({**self.sizes, **changes})

    def count(self, **changes: int) -> int:
        made = self.table({**self.sizes, **changes})
        assert made is not None
        return sum(map(prod, made.values()))


def encoder(s: Mapping[str, int]) -> Table:
    """An embedding, L layers of a matrix with a bias, a norm in all layers but the first, and a head."""
    table: Table = {"embed.weight": (s["V"], s["H"])}
    for layer in range(s["L"]):
        table[f"layer.{layer}.up.weight"] = (s["F"], s["H"])
        table[f"layer.{layer}.up.bias"] = (s["F"],)
        if layer:
            table[f"layer.{layer}.norm.weight"] = (s["H"],)
    table["head.weight"] = (s["H"], 3)
    return table


@pytest.fixture
def toy():
    return Toy


@pytest.fixture
def small_encoder():
    """V*H + L*(F*H + F) + (L - 1)*H + 3*H."""
    return Toy({"V": 100, "H": 8, "L": 5, "F": 32}, encoder)
