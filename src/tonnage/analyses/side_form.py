"""The work of a convolutional network for any image: sums of squares of the sides that its feature maps have.

A convolution or a pooling of stride s makes a side n into floor((n + a)/s) for some a, and floors of floors are of that
form again, so each side in the network is floor((n + a)/k) of the side of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

BESIDE = (0, 1, 2, 3, 5, 8, 13, 21, 33, 47, 64)
"""What is added to the image's side to look at: unaligned to every stride, so that roundings show."""
_STRIDES = tuple(2**power for power in range(8))
_MOST_OFFSET = 4
"""Offsets are looked for up to this many strides either way; kernels of 11 at a stride of 4 make 2."""


class Product(NamedTuple):
    """One product of a forward pass: its multiply-accumulates, and the side of its square output (0: it has none)."""

    macs: int
    side: int


Products = Callable[[Mapping[str, int]], Sequence[Product] | None]
"""The products at these sizes, in order; None where the model does not take them."""


def side_formula(products: Products, sizes: Mapping[str, int]) -> str:
    """The multiply-accumulates in B (batch) and n (side of the image), for any n; "" where they are no such sums.

    B*(118013952*ceil(n/2)^2 + ... + 2048000)
    """
    if sizes.keys() != {"B", "n"}:
        return ""
    seen = {n: products({**sizes, "n": n}) for n in (sizes["n"] + more for more in BESIDE)}
    base = seen[sizes["n"]]
    if base is None or any(found is None or len(found) != len(base) for found in seen.values()):
        return ""
    coefficients: dict[str, int] = {}
    for index, first in enumerate(base):
        column = {n: found[index] for n, found in seen.items() if found is not None}
        side = _side_function({n: product.side for n, product in column.items()}) if first.side else ""
        if not _follows(column, side) or first.macs % sizes["B"]:
            return ""
        square = first.side**2 if side else 1
        if first.macs % (sizes["B"] * square):
            return ""
        coefficients[side] = coefficients.get(side, 0) + first.macs // (sizes["B"] * square)
    return _written(coefficients)


def _follows(column: Mapping[int, Product], side: str) -> bool:
    """Whether the work grows with the square of the side, or not at all where there is none."""
    first = next(iter(column.values()))
    if not side:
        return all(product.macs == first.macs for product in column.values())
    return all(product.macs * first.side**2 == first.macs * product.side**2 for product in column.values())


def _side_function(sides: Mapping[int, int]) -> str:
    """floor((n + a)/k) with these values, as text; "" if they are all the same or nothing gives them."""
    if len(set(sides.values())) == 1:
        return ""
    for stride in _STRIDES:
        least = max(side * stride - n for n, side in sides.items())
        most = min(side * stride + stride - 1 - n for n, side in sides.items())
        if least <= most and -_MOST_OFFSET * stride <= most and least <= _MOST_OFFSET * stride:
            return _rounded(stride, range(least, most + 1))
    return ""


def _rounded(stride: int, offsets: range) -> str:
    if stride == 1:
        return "n" if 0 in offsets else f"(n + {offsets[0]})".replace("+ -", "- ")
    if stride - 1 in offsets:
        return f"ceil(n/{stride})"
    if 0 in offsets:
        return f"floor(n/{stride})"
    return f"floor((n + {offsets[0]})/{stride})".replace("+ -", "- ")


def _written(coefficients: Mapping[str, int]) -> str:
    terms = [f"{count}*{side}^2" for side, count in coefficients.items() if side and count]
    terms += [str(coefficients[""])] if coefficients.get("") else []
    return f"B*({' + '.join(terms)})" if terms else ""
