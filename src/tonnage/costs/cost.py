"""What one operator costs, as values."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tonnage.trace import Op


class Cost(NamedTuple):
    """The arithmetic of one operator.

    `macs` are the multiply-accumulates of its products (matrix product, convolution, attention, recurrent gates) and
    nothing else; `products` is how many dot products they make up, so that a dot product of n terms is n of `macs` and,
    where multiplications and additions are counted apart, 2n - 1 operations. `bias` are the additions of a bias.
    `flops` is all other work on floating-point numbers, by the convention of its `other_kind`. `again` are products
    that a fused backward kernel does a second time, because its forward did not keep the result; not part of `macs`.

    `bytes_moved` is every input read once and every output written once; a view moves nothing. A kernel that reads
    twice moves more. Strides are not recorded, so a tensor that was expanded counts with all its elements.
    """

    kind: str
    macs: int = 0
    products: int = 0
    bias: int = 0
    flops: int = 0
    again: Cost | None = None
    bytes_moved: int = 0

    @property
    def other_kind(self) -> str:
        """What `flops` are: inside attention they are a softmax."""
        return "softmax" if self.kind == "attention" else self.kind


class Unknown(NamedTuple):
    """An operator that has no rule, or not for these arguments."""

    reason: str


Rule = Callable[[Op], Cost | Unknown]
"""A family's answer for one of its operators, `bytes_moved` left out."""
