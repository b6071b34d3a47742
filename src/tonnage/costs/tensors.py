"""Elements and bytes of the tensors of an operator."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod

from tonnage.trace import Op, TensorSpec

_FLOATING = ("float", "bfloat", "complex")


def elements(tensor: TensorSpec) -> int:
    return prod(tensor.shape)


def total(tensors: Iterable[TensorSpec]) -> int:
    return sum(elements(t) for t in tensors)


def nbytes(tensors: Iterable[TensorSpec]) -> int:
    """Bytes of all elements; types of less than a byte are stored in whole ones.

    >>> nbytes([TensorSpec((3,), "bfloat16"), TensorSpec((5,), "bool"), TensorSpec((2,), "float8_e4m3fn")])
    13
    """
    return sum(elements(t) * itemsize(t.dtype) for t in tensors)


def itemsize(dtype: str) -> int:
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1


def is_floating(op: Op) -> bool:
    """Whether any tensor of `op` holds floating-point or complex numbers."""
    return any(t.dtype.startswith(_FLOATING) for t in (*op.outputs, *op.inputs))


def first_list(op: Op) -> tuple[TensorSpec, ...]:
    """The tensors of the first list among the arguments of an operator on lists."""
    length = next((len(a) for a in op.arguments if isinstance(a, (list, tuple))), 0)
    return op.inputs[:length]
