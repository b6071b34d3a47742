"""`torch.Generator(device="cuda")`: the host's generator, saying that it is the card's."""

from __future__ import annotations

from typing import Any

import torch

from tonnage.virtual.storages import Place

_Generator = torch.Generator


class CardGenerator(_Generator):
    """Seeds, states and draws of the host's generator; what it draws on the card has no values but where followed."""

    def __new__(cls, device: Any = None) -> CardGenerator:
        return super().__new__(cls)

    def __init__(self, device: Any = None) -> None:
        """The device is known."""

    def get_state(self) -> torch.Tensor:
        """Seed and offset in 16 bytes, as CUDA's; the offset is not kept."""
        seed = (self.initial_seed() % (1 << 64)).to_bytes(8, "little")
        return torch.tensor([*seed, *bytes(8)], dtype=torch.uint8, device="cpu")

    def set_state(self, new_state: torch.Tensor) -> CardGenerator:
        self.manual_seed(int.from_bytes(bytes(new_state.tolist()[:8]), "little"))
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return Place.CARD.value


class _Either(type(_Generator)):  # type: ignore[misc]
    """What `torch.Generator` is inside the block: it makes either, and both are instances of it."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Generator)

    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        return CardGenerator() if torch.device(device).type == "cuda" else _Generator(device)


class Generator(_Generator, metaclass=_Either):
    """Stands for `torch.Generator`."""
