"""Where the parameters are and where the work is: of each kind of layer, and in a sentence.

>>> where_the_work_is([
...     KindShare(kind="convolution", parameters=14_714_688, macs=15_346_630_656),
...     KindShare(kind="linear", parameters=123_642_856, macs=123_633_664),
... ])
'The linear layers hold 89 % of the parameters, the convolutions do 99 % of the multiply-accumulates.'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Literal

from msgspec import Struct

from tonnage.analyses.compute import costs_of
from tonnage.analyses.passes import last_step
from tonnage.costs import Cost
from tonnage.trace import Module, Op, Trace

LayerKind = Literal["convolution", "linear", "embedding", "batched", "recurrent", "norm", "other"]

PLURALS: dict[LayerKind, str] = {
    "convolution": "convolutions",
    "linear": "linear layers",
    "embedding": "embeddings",
    "batched": "products of attention and other batches",
    "recurrent": "recurrent layers",
    "norm": "norms",
    "other": "other parts",
}

_HOLDERS: dict[LayerKind, re.Pattern[str]] = {
    "linear": re.compile(r"Linear|Expert|MultiheadAttention|^Conv1D$"),
    "convolution": re.compile(r"Conv(Transpose)?[123]d"),
    "embedding": re.compile(r"Embedding"),
    "recurrent": re.compile(r"LSTM|GRU|RNN"),
    "norm": re.compile(r"Norm"),
}
"""By the class of the module that holds a parameter, the first that fits. What nn.MultiheadAttention holds itself are
the weights of linear layers; Conv1D is what transformers calls its transposed linear layer (pytorch_utils.py)."""

_BY_ROW = re.compile(r"aten\.(add)?(mm|mv)\.|aten\._addmm_activation\.|aten\._grouped_mm\.|aten\.linear\.")
"""Products of activations with one matrix, as linear layers make them, those of experts included."""


class KindShare(Struct, frozen=True, kw_only=True):
    """One kind of layer: parameters, each tensor once, and MACs of the forward pass.

    "batched" are the products that are made for each head or sample apart: attention, and what else multiplies
    batches of matrices. It holds no parameters; a linear layer is one whichever module calls it.
    """

    kind: LayerKind
    parameters: int
    macs: int


class Finding(Struct, frozen=True, kw_only=True):
    """`shares` with the most parameters first; `sentence` is "" where no kind has the half of either."""

    sentence: str
    shares: list[KindShare]


def find_where_the_work_is(trace: Trace) -> Finding:
    """Parameters and forward MACs of `trace` by kind of layer."""
    parameters, macs = _parameters(trace), _macs(trace)
    kinds = sorted({**parameters, **macs}, key=lambda kind: (-parameters[kind], -macs[kind]))
    shares = [KindShare(kind=kind, parameters=parameters[kind], macs=macs[kind]) for kind in kinds]
    return Finding(sentence=where_the_work_is(shares), shares=shares)


def where_the_work_is(shares: Sequence[KindShare]) -> str:
    """Which kind holds most of the parameters and which does most of the work, where both are the half or more."""
    parameters, macs = sum(share.parameters for share in shares), sum(share.macs for share in shares)
    if not parameters or not macs:
        return ""
    holder = max(shares, key=lambda share: share.parameters)
    worker = max(shares, key=lambda share: share.macs)
    if 2 * holder.parameters < parameters or 2 * worker.macs < macs:
        return ""
    held = f"The {PLURALS[holder.kind]} hold {percent(holder.parameters, parameters)} of the parameters"
    done = f"do {percent(worker.macs, macs)} of the multiply-accumulates."
    return f"{held} and {done}" if holder is worker else f"{held}, the {PLURALS[worker.kind]} {done}"


def percent(part: int, whole: int) -> str:
    """`part` of `whole` in whole percent; nearly all is not all, and little is not nothing.

    >>> percent(123_642_856, 138_357_544), percent(9_999, 10_000), percent(5, 5), percent(1, 999)
    ('89 %', 'over 99 %', '100 %', 'under 1 %')
    """
    rounded = (200 * part + whole) // (2 * whole)
    if rounded == 100 and part < whole:
        return "over 99 %"
    return "under 1 %" if part and not rounded else f"{rounded} %"


def _parameters(trace: Trace) -> Counter[LayerKind]:
    modules = {module.path: module for module in trace.modules[1:]}
    count: Counter[LayerKind] = Counter()
    seen: set[int] = set()
    for parameter in trace.parameters:
        if parameter.kind == "parameter" and parameter.identity not in seen:
            seen.add(parameter.identity)
            owner = modules.get(parameter.name.rpartition(".")[0])
            count[_holder(owner) if owner else "other"] += prod(parameter.shape)
    return count


def _holder(module: Module) -> LayerKind:
    return next((kind for kind, pattern in _HOLDERS.items() if pattern.search(module.type)), "other")


def _macs(trace: Trace) -> Counter[LayerKind]:
    step = last_step(trace)
    ops = trace.ops[step.begin : step.end]
    count: Counter[LayerKind] = Counter()
    for op, during, cost in zip(ops, step.passes, costs_of(ops), strict=True):
        if during == "forward" and isinstance(cost, Cost) and cost.macs:
            count[_worker(op, cost, trace.modules[op.module])] += cost.macs
    return count


def _worker(op: Op, cost: Cost, module: Module) -> LayerKind:
    """A recurrent layer that runs step by step is made of ordinary products, and is still one."""
    if cost.kind == "convolution":
        return "convolution"
    if cost.kind == "recurrent" or _holder(module) == "recurrent":
        return "recurrent"
    return "linear" if _BY_ROW.match(op.name) else "batched"
