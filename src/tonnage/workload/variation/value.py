"""The value of this room: a Variation."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tonnage.workload.untouched import untouched_generators

Changes = Mapping[str, Any]


class Impossible(Exception):
    """The subject cannot be built with these changes."""

    @classmethod
    def of(cls, error: BaseException) -> Impossible:
        """In the words of whoever refused first."""
        while error.__cause__ is not None:
            error = error.__cause__
        return cls(f"{type(error).__name__}: {error}")


class Variation(ABC):
    """A subject by its sizes: `fields` are those that whoever made it gave, by name, with their values.

    `following` are sizes that follow from others unless they are given (a head size that is not in the config),
    `settings` everything else that was given or can be: flags, names. `aliases` are further names of fields.
    """

    fields: Mapping[str, int]
    following: Mapping[str, int]
    settings: Mapping[str, Any]
    aliases: Mapping[str, str] = {}

    @abstractmethod
    def construct(self, changes: Changes) -> nn.Module:
        """The model with `changes`, by its ordinary constructors."""

    def follow(self, changes: Changes) -> Mapping[str, int]:
        """What `following` is with `changes`; Impossible if there is no such subject."""
        return {}

    def build(self, changes: Changes) -> nn.Module:
        """The model with `changes`, without data; Impossible if it cannot be built so."""
        try:
            with untouched_generators(), torch.device("meta"), _without_initialisation(), quietly():
                return self.construct(changes)
        except Exception as error:  # whatever a constructor makes of sizes that do not fit each other
            raise Impossible.of(error) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Libraries warn of sizes that nobody would choose; they are not chosen here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _without_initialisation() -> Iterator[None]:
    """Initialisers write values, and there are none: leaving them out halves the time of a build."""
    saved = {name: getattr(nn.init, name) for name in _INITIALISERS}
    try:
        for name in _INITIALISERS:
            setattr(nn.init, name, _leave)
        yield
    finally:
        for name, function in saved.items():
            setattr(nn.init, name, function)


def _leave(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return tensor


_INITIALISERS = (
    "uniform_",
    "normal_",
    "trunc_normal_",
    "constant_",
    "ones_",
    "zeros_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "orthogonal_",
)
