"""The bound for each layer and for the whole step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec import Struct

from tonnage.analyses.compute import FLOPS_PER_MAC, costs_of
from tonnage.analyses.known import Known
from tonnage.analyses.passes import Pass, last_step
from tonnage.analyses.paths import folded
from tonnage.analyses.roofline.peaks import OTHER, Peak, peak_of
from tonnage.costs import Cost
from tonnage.gpus import Card
from tonnage.recording import NotCounted, Recording
from tonnage.trace import Op, Trace

_FLOATING = re.compile(r"b?float|complex")

_PLURALS = {"matrix product": "matrix products", "convolution": "convolutions", "recurrent": "recurrent layers"}

Limit = Literal["compute", "memory", "unknown"]


class Bound(Struct, frozen=True, kw_only=True):
    """The least time of some operators, one after another.

    `flops` are all of them, products and others; `bytes_moved` is every input read once and every output written once.
    `seconds` takes for each operator the longer of its arithmetic at the peak and its bytes at the bandwidth;
    `compute_seconds` and `memory_seconds` are these two alone, and `product_seconds` the products alone: no cache and
    no fusion of kernels makes that part shorter. `unknown`: for some of it the card's speed is not known, and it takes
    no time here.
    """

    flops: int
    bytes_moved: int
    seconds: float
    compute_seconds: float
    memory_seconds: float
    product_seconds: float
    unknown: bool = False

    @property
    def intensity(self) -> float | None:
        """FLOP per byte; None where no byte moves."""
        return self.flops / self.bytes_moved if self.bytes_moved else None

    @property
    def limit(self) -> Limit:
        """What takes longer: for one operator, which side of the ridge its intensity is on."""
        if self.unknown:
            return "unknown"
        return "compute" if self.compute_seconds > self.memory_seconds else "memory"


class LayerBound(Struct, frozen=True, kw_only=True):
    """What one module runs itself, without its children; `step` is forward and, in training, backward.

    Modules that repeat with the same work are one: `modules` of them, all together in the numbers, their numbers
    folded in `path` ("encoder.layer.{0-11}.output.dense"). `path` and `type` are "" outside of every module.
    """

    path: str
    type: str
    modules: int
    forward: Bound
    step: Bound


class Roofline(Struct, frozen=True, kw_only=True):
    """A lower bound on the time of one inference or training step on a card, and what limits it where.

    `step` is all passes; in inference it is `forward`. `layers` have the longest first. `peaks` are those that were
    used, `verified` whether the catalogue's source for peaks and bandwidth was read. `bandwidth` is in bytes/s; None
    where it is not known, and then memory takes no time here. `missing` is what would add to the bound if it were
    known; `beaten_by` is what can make a real run faster than it.
    """

    card: str
    bandwidth: int | None
    bandwidth_source: str
    peaks_source: str
    verified: bool
    peaks: list[Peak]
    forward: Bound
    passes: dict[str, Bound]
    step: Bound
    layers: list[LayerBound]
    missing: list[NotCounted]
    beaten_by: list[str]
    known: Known = "modelled"


class Load(NamedTuple):
    """What one operator asks of a card."""

    product_flops: int
    other_flops: int
    bytes_moved: int
    kind: str
    dtype: str


def load_of(op: Op, cost: Cost) -> Load:
    """A fused kernel that computes something a second time takes the time for it as well."""
    again = cost.again.macs if cost.again else 0
    dtype = next((t.dtype for t in (*op.inputs, *op.outputs) if _FLOATING.match(t.dtype)), "")
    if cost.macs and not dtype:
        dtype = op.inputs[0].dtype
    return Load(FLOPS_PER_MAC * (cost.macs + again), cost.flops + cost.bias, cost.bytes_moved, cost.kind, dtype)


class Seconds(NamedTuple):
    """The three can overlap. What has no known speed takes 0, and makes the whole `unknown`."""

    products: float
    other: float
    memory: float
    unknown: bool


class Speeds:
    """A card's peaks and bandwidth, each peak looked up once."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.used: dict[tuple[str, str], Peak] = {}

    def seconds(self, load: Load) -> Seconds:
        products = self._at_peak(load.product_flops, load.kind, load.dtype)
        other = self._at_peak(load.other_flops, OTHER, load.dtype if load.dtype == "float64" else "float32")
        bandwidth = self.card.bandwidth
        memory = load.bytes_moved / bandwidth if bandwidth else None if load.bytes_moved else 0.0
        times = (products, other, memory)
        return Seconds(products or 0.0, other or 0.0, memory or 0.0, unknown=None in times)

    def _at_peak(self, flops: int, work: str, dtype: str) -> float | None:
        if not flops:
            return 0.0
        peak = self.used.get((work, dtype))
        if peak is None:
            peak = self.used[work, dtype] = peak_of(work, dtype, self.card)
        return flops / peak.flops_per_second if peak.flops_per_second else None


@dataclass
class _Tally:
    flops: int = 0
    bytes_moved: int = 0
    seconds: float = 0.0
    compute_seconds: float = 0.0
    memory_seconds: float = 0.0
    product_seconds: float = 0.0
    unknown: bool = False

    def add(self, load: Load, seconds: Seconds) -> None:
        compute = max(seconds.products, seconds.other)
        self.flops += load.product_flops + load.other_flops
        self.bytes_moved += load.bytes_moved
        self.seconds += max(compute, seconds.memory)
        self.compute_seconds += compute
        self.memory_seconds += seconds.memory
        self.product_seconds += seconds.products
        self.unknown |= seconds.unknown

    def bound(self, times: int = 1) -> Bound:
        """All of it, `times` over."""
        return Bound(
            flops=times * self.flops,
            bytes_moved=times * self.bytes_moved,
            seconds=times * self.seconds,
            compute_seconds=times * self.compute_seconds,
            memory_seconds=times * self.memory_seconds,
            product_seconds=times * self.product_seconds,
            unknown=self.unknown,
        )


@dataclass
class _ModuleTally:
    forward: _Tally = field(default_factory=_Tally)
    step: _Tally = field(default_factory=_Tally)


def account_roofline(recording: Recording, card: Card) -> Roofline:
    """The least time that the inference or the last training step of `recording` takes on `card`."""
    trace = recording.trace
    step = last_step(trace)
    ops = trace.ops[step.begin : step.end]
    costs = costs_of(ops)
    speeds = Speeds(card)
    passes: dict[Pass, _Tally] = {}
    whole = _Tally()
    modules: dict[int, _ModuleTally] = {}
    for op, during, cost in zip(ops, step.passes, costs, strict=True):
        if not isinstance(cost, Cost):
            continue
        load = load_of(op, cost)
        seconds = speeds.seconds(load)
        module = modules.setdefault(op.module, _ModuleTally())
        tallies = [passes.setdefault(during, _Tally()), whole, module.step]
        for tally in [*tallies, module.forward] if during == "forward" else tallies:
            tally.add(load, seconds)
    return Roofline(
        card=card.name,
        bandwidth=card.bandwidth,
        bandwidth_source=card.facts["bandwidth"].source if card.bandwidth else "",
        peaks_source=card.facts["peak_flops"].source if card.peak_flops else "",
        verified=all(card.facts[name].verified for name in ("bandwidth", "peak_flops") if name in card.facts),
        peaks=list(speeds.used.values()),
        forward=passes.get("forward", _Tally()).bound(),
        passes={name: tally.bound() for name, tally in passes.items()},
        step=whole.bound(),
        layers=_layers(trace, modules),
        missing=list(_missing(speeds, [c.reason for c in costs if not isinstance(c, Cost)])),
        beaten_by=list(_beaten_by(ops, step.passes)),
    )


def _missing(speeds: Speeds, unknown: Sequence[str]) -> Iterator[NotCounted]:
    for peak in speeds.used.values():
        if peak.flops_per_second is None:
            yield NotCounted(f"the time of {_PLURALS.get(peak.work, peak.work)} in {peak.dtype}", peak.reason)
    if speeds.card.bandwidth is None:
        yield NotCounted("the time of memory", f"the catalogue has no bandwidth of {speeds.card.name}")
    for reason in dict.fromkeys(unknown):
        yield NotCounted("operators whose work is not known", reason, unknown.count(reason))


def _beaten_by(ops: Iterable[Op], passes: Iterable[Pass]) -> Iterator[str]:
    yield "tensors that stay in the L2 cache between operators, and operators fused by a compiler"
    if any(_is_winograd_shaped(op) for op, during in zip(ops, passes, strict=True) if during == "forward"):
        yield "cuDNN's Winograd and FFT kernels, which multiply less than a convolution of stride 1 is counted with"


def _is_winograd_shaped(op: Op) -> bool:
    if op.name != "aten.convolution.default":
        return False
    return set(op.arguments[3]) == {1} and max(op.inputs[1].shape[2:]) >= 3


# -- layers -------------------------------------------------------------------------------------------------------


def _layers(trace: Trace, modules: dict[int, _ModuleTally]) -> list[LayerBound]:
    """Longest first; modules whose paths differ in numbers alone are one if they do the same work."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, tally in modules.items():
        module = trace.modules[index]
        work = tuple((t.flops, t.bytes_moved, t.seconds) for t in (tally.forward, tally.step))
        groups.setdefault((re.sub(r"\b\d+\b", "#", module.path), module.type, *work), []).append(index)
    layers = [
        LayerBound(
            path=folded([trace.modules[index].path for index in group]),
            type=trace.modules[group[0]].type,
            modules=len(group),
            forward=modules[group[0]].forward.bound(len(group)),
            step=modules[group[0]].step.bound(len(group)),
        )
        for group in groups.values()
    ]
    return sorted((layer for layer in layers if layer.step.seconds), key=lambda layer: -layer.step.seconds)
