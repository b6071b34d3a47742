"""One exchange as a value: what is there, what could be, each count in symbols and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from tonnage.analyses.expressions import parse

Kind = Literal[
    "stack", "crossed", "separable", "grouped", "bottleneck", "grouped queries", "gated", "low rank", "adapter"
]


class Amount(Struct, frozen=True, kw_only=True):
    """A count in symbols, with the numbers in their places, and worked out."""

    formula: str
    substituted: str
    value: int


class Side(Struct, frozen=True, kw_only=True):
    """One of the two that are compared.

    `receptive_field` is how many points of the input one point of the output sees to a side (None: not a convolution).
    `trainable` is given where it is not all parameters; `cache` are the keys and values kept for each token.
    """

    what: str
    parameters: Amount
    macs: Amount
    receptive_field: int | None = None
    trainable: Amount | None = None
    cache: Amount | None = None


class WhatIf(Struct, frozen=True, kw_only=True):
    """One exchange: what is there, what could be, and what a count does not say (`remark`)."""

    kind: Kind
    name: str
    before: Side
    after: Side
    remark: str = ""

    @property
    def parameter_ratio(self) -> float:
        """Parameters after, of those before."""
        return self.after.parameters.value / self.before.parameters.value

    @property
    def mac_ratio(self) -> float:
        return self.after.macs.value / self.before.macs.value


def amount(formula: str, values: Mapping[str, int]) -> Amount:
    expression = parse(formula)
    return Amount(
        formula=str(expression), substituted=expression.substituted(values), value=int(expression.evaluate(values))
    )
