"""Which storages live where: on the card, on the host without data, or really on `meta`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from enum import Enum

import torch


class Place(Enum):
    """Where a tensor that carries no data claims to be."""

    CARD = torch.device("cuda", 0)
    HOST = torch.device("cpu")
    META = torch.device("meta")


_RANDOM_STATE = 16
"""Bytes up to which a tensor of the host is a seed or offset that an attention kernel left there."""


class StorageRef(weakref.ref[torch.UntypedStorage]):
    """A weak reference that knows its key and, for a storage on the card, its allocation."""

    __slots__ = ("key", "nbytes", "number", "place")

    key: int
    nbytes: int
    number: int
    place: Place


class Storages:
    """The living storages without data, by the address of their C++ object.

    A Python wrapper of a storage lives as long as the C++ object (PyTorch resurrects it), so a weak reference to it
    dies exactly when the last tensor, view, saved variable or Python name lets go.
    """

    def __init__(self, died: Callable[[StorageRef], None]) -> None:
        self.alive: dict[int, StorageRef] = {}
        self.elsewhere = False
        """Whether a storage without data has ever been born that is not on the card."""
        self.pinned: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._died = died

    def find(self, tensor: torch.Tensor) -> StorageRef | None:
        return self.alive.get(tensor.untyped_storage()._cdata)

    def add(self, storage: torch.UntypedStorage, place: Place, number: int) -> StorageRef:
        ref = StorageRef(storage, self._gone)
        ref.key, ref.nbytes, ref.number, ref.place = storage._cdata, storage.nbytes(), number, place
        self.alive[ref.key] = ref
        if place is not Place.CARD and ref.nbytes > _RANDOM_STATE:
            self.elsewhere = True
        return ref

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Remembers that a tensor of the host is in page-locked memory."""
        self.pinned.add(tensor.untyped_storage())
        return tensor

    def _gone(self, ref: StorageRef) -> None:
        if self.alive.get(ref.key) is ref:
            del self.alive[ref.key]
        self._died(ref)

    def place_of(self, tensor: torch.Tensor) -> Place:
        """Where a meta tensor claims to be; one that was made before the block is really on `meta`."""
        ref = self.alive.get(tensor.untyped_storage()._cdata)
        return Place.META if ref is None else ref.place
