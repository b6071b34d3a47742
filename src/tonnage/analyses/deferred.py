"""Results that are worked out when somebody asks: a closed form takes many builds of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_SOURCE = "source"


def deferring(result: T, source: Callable[[], Any]) -> T:
    """`result` (a Struct that keeps a __dict__), knowing where its form is to be had."""
    result.__dict__[_SOURCE] = source
    return result


def asked(result: Any) -> Any:
    """What the source of `result` gives, asked once; None without a source."""
    source = result.__dict__.get(_SOURCE)
    if source is None:
        return None
    if "answer" not in result.__dict__:
        result.__dict__["answer"] = source()
    return result.__dict__["answer"]
