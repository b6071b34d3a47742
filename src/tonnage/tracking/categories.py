"""What a storage is, where several things can be said of it."""

from __future__ import annotations

from tonnage.ledger import Category

_TELLING = {
    Category.TEMPORARY: 0,
    Category.WORKSPACE: 1,
    Category.ACTIVATION: 2,
    Category.OUTPUT: 3,
    Category.INPUT: 4,
    Category.GRADIENT: 5,
    Category.OPTIMIZER: 6,
    Category.BUFFER: 7,
    Category.PARAMETER: 8,
}
"""Which of two names for one storage says more: an input that is also a parameter is a parameter."""


def more_telling(new: Category, old: Category) -> bool:
    """Whether `new` says more of a storage than `old` did."""
    return _TELLING[new] > _TELLING[old]
