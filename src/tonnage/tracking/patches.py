"""Attributes set for the length of a block and put back afterwards."""

from __future__ import annotations

from typing import Any

_MISSING = object()


class Patches:
    """Remembers what every attribute was, so that `restore` leaves no trace."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, value)

    def restore(self) -> None:
        while self._before:
            owner, name, value = self._before.pop()
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
