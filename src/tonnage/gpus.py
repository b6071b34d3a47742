"""The cards: how much memory each has, how it is built, and how each fact is known.

    >>> card = find_card("rtx3060laptop")
    >>> card.torch_name, card.sm_count, card.compute_capability
    ('NVIDIA GeForce RTX 3060 Laptop GPU', 30, (8, 6))

Multiprocessors, threads and shared memory are inputs to what CUDA's kernels allocate, so a laptop or MIG variant is
a card of its own. What follows from the compute capability alone (cuBLAS workspace, attention backend) is not here.
The facts are in data/gpus.toml, read at the first question.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tonnage.errors import BadOption, UnknownCard
from tonnage.units import KiB, MiB

_DATA = Path(__file__).parent / "data" / "gpus.toml"

# Fields whose key in the file carries a unit.
_KEYS = {
    "total_memory": "total_mib",
    "nominal_memory": "nominal_mib",
    "bandwidth": "bandwidth_gbs",
    "peak_flops": "tflops",
}

WARP_SIZE = 32  # on every NVIDIA card to date: NVIDIA/cccl libcudacxx/include/cuda/__device/arch_traits.h

# PyTorch loads its kernels one by one since 1.13 (pytorch/pytorch#86509); before that the context held them all.
_LAZY_LOADING_SINCE = (1, 13)

_ENDS = ("low", "typical", "high")


@dataclass(frozen=True)
class Fact:
    """How a value is known: `source` in words, `verified` if that source was read and says so."""

    source: str
    verified: bool


@dataclass(frozen=True)
class MemoryRange:
    """Bytes, from the least to the most that one card model was seen to report; `typical` is the one to plan with."""

    low: int
    high: int
    typical: int


@dataclass(frozen=True)
class Card:
    """One card model as PyTorch sees it.

    `total_memory` is `torch.cuda.get_device_properties().total_memory`, a range because it differs by driver, ECC
    and operating system; `nominal_memory` is what nvidia-smi calls total. `bandwidth` is in bytes/s and `peak_flops`
    in dense FLOP/s by precision ("fp32", "tf32", "bf16", "fp16"); what is unknown is None or absent. `facts` says
    for each field how it is known.
    """

    name: str
    torch_name: str
    aliases: tuple[str, ...]
    compute_capability: tuple[int, int]
    sm_count: int
    max_threads_per_sm: int
    shared_memory_per_block_optin: int
    total_memory: MemoryRange
    nominal_memory: int
    bandwidth: int | None
    peak_flops: Mapping[str, float] = field(hash=False)
    facts: Mapping[str, Fact] = field(hash=False)
    measured_context: int | None = None

    @property
    def warp_size(self) -> int:
        return WARP_SIZE

    def with_total_memory(self, nbytes: int) -> Card:
        """This card with `nbytes` of memory instead of the catalogue's range."""
        if nbytes < 1:
            raise BadOption(f"a card with {nbytes} bytes of memory holds nothing", hint="give its size, such as 6GiB")
        told = Fact(source="given by the caller", verified=False)
        return replace(
            self, total_memory=MemoryRange(nbytes, nbytes, nbytes), facts={**self.facts, "total_memory": told}
        )

    def context_bytes(self, torch_version: str) -> MemoryRange:
        """What nvidia-smi shows for a process that has touched this card but allocated nothing. An estimate.

        Made of a base (driver, page tables, device heap, first kernels) and of bytes for every thread that can be
        resident (multiprocessors x threads). Where it was measured on this card, that is `typical`. Kernels loaded
        later are not counted; before 1.13 all of PyTorch's are, as it loaded them at once. The figures and their
        sources are in data/gpus.toml, [context].
        """
        model = _catalogue()["context"]
        threads = self.sm_count * self.max_threads_per_sm
        low, typical, high = (_mib(model["base_mib"][end]) + threads * model["bytes_per_thread"][end] for end in _ENDS)
        if self.measured_context is not None:
            typical = self.measured_context
        if parse_version(torch_version) < _LAZY_LOADING_SINCE:
            kernels = model["eager_kernels_mib"]
            low, typical, high = (
                lazy + kernels[end] * MiB for lazy, end in zip((low, typical, high), _ENDS, strict=True)
            )
        return MemoryRange(low=min(low, typical), high=max(high, typical), typical=typical)


def all_cards() -> tuple[Card, ...]:
    """Every card of the catalogue, oldest architecture first."""
    return _cards()


def find_card(name: str) -> Card:
    """The card called `name`: its catalogue name, an alias, or what PyTorch prints.

        find_card("RTX 3060 Laptop"), find_card("NVIDIA GeForce RTX 3060 Laptop GPU"), find_card("T4")

    Case, spaces, dashes and the maker's words do not matter. A short name means the common variant: "H100" the SXM5
    with 80 GB, "A100" the SXM4 with 80 GB, "V100" the SXM2 with 16 GB, "RTX 3080" the one with 10 GB. Raises
    UnknownCard with the nearest names.
    """
    card = _index().get(_normalised(name))
    if card is None:
        raise UnknownCard(f"no card called `{name}` in the catalogue of {len(all_cards())}", hint=_nearest(name))
    return card


def _nearest(name: str) -> str:
    import difflib  # only on the way to an error message

    close = difflib.get_close_matches(_normalised(name), _index(), n=5, cutoff=0.6)
    names = dict.fromkeys(_index()[key].name for key in close)
    listing = "`tonnage gpus` lists them all"
    return f"did you mean {' or '.join(list(names)[:3])}? {listing}" if names else listing


def _normalised(name: str) -> str:
    return re.sub(r"nvidia|geforce|tesla|gpu|[^a-z0-9]", "", name.casefold())


@functools.cache
def _index() -> Mapping[str, Card]:
    """Every spelling to its card; where PyTorch prints one name for two sizes, the first of the catalogue has it."""
    index = {_normalised(name): card for card in _cards() for name in (card.name, *card.aliases)}
    for card in _cards():
        index.setdefault(_normalised(card.torch_name), card)
    return index


@functools.cache
def _catalogue() -> Mapping[str, Any]:
    if sys.version_info >= (3, 11):  # imported here: a saved report is shown without the catalogue
        import tomllib
    else:
        import tomli as tomllib
    parsed: dict[str, Any] = tomllib.loads(_DATA.read_text(encoding="utf-8"))
    return parsed


@functools.cache
def _cards() -> tuple[Card, ...]:
    return tuple(_card(row) for row in _catalogue()["card"])


def _card(row: Mapping[str, Any]) -> Card:
    limits = _catalogue()["capability"][row["compute_capability"]]
    major, minor = row["compute_capability"].split(".")
    total = row["total_mib"]
    context = row.get("context_mib")
    return Card(
        name=row["name"],
        torch_name=row["torch_name"],
        aliases=tuple(row["aliases"]),
        compute_capability=(int(major), int(minor)),
        sm_count=row["sm_count"],
        max_threads_per_sm=limits["max_threads_per_sm"],
        shared_memory_per_block_optin=limits["shared_memory_optin_kib"] * KiB,
        total_memory=MemoryRange(_mib(min(total)), _mib(max(total)), _mib(row["typical_mib"])),
        nominal_memory=_mib(row["nominal_mib"]),
        bandwidth=row["bandwidth_gbs"] * 10**9 if "bandwidth_gbs" in row else None,
        peak_flops={precision: tera * 1e12 for precision, tera in row.get("tflops", {}).items()},
        facts=dict(_facts(row)),
        measured_context=None if context is None else _mib(context),
    )


def _mib(size: float) -> int:
    return round(size * MiB)


def _facts(row: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
    """The fields of `row` with how each is known; what the evidence does not settle is marked as not verified."""
    catalogue = _catalogue()
    for name, reason in catalogue["unverified"].items():
        if _KEYS.get(name, name) not in row:
            continue
        seen = (catalogue["source"][key] for key in row["seen"])
        says = "; ".join(source["says"] for source in seen if name in source["settles"])
        yield name, Fact(source=says or reason, verified=bool(says))
    for name in ("max_threads_per_sm", "shared_memory_per_block_optin"):
        yield name, Fact(source=catalogue["capability"]["says"], verified=True)
    if "context_mib" in row:
        yield "measured_context", Fact(source=row["context_source"], verified=True)


def parse_version(text: str) -> tuple[int, int]:
    """(major, minor) of a PyTorch version such as "2.7.1" or "2.13.0+cu130"; BadOption for anything else."""
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise BadOption(f"`{text}` is no PyTorch version", hint="write it as torch.__version__ prints it: 2.7.1")
    return int(match[1]), int(match[2])
