"""Feed-forward networks: up, an activation, down; or two up, one of which gates the other, and down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.components.plain import activation_name
from tonnage.analyses.describing import linear_sizes
from tonnage.analyses.parts import Model, Part


@dataclass(frozen=True)
class FeedForward:
    """`width` -> `inner` -> `width`."""

    width: int
    inner: int
    gated: bool


def feed_forward(part: Part, model: Model) -> Explanation | None:
    """A part whose own linear layers are a feed-forward network, and which holds nothing else of weight."""
    linears = [child for child in part.children if linear_sizes(child)]
    found = network(linears)
    others = [child for child in part.children if not linear_sizes(child)]
    if found is None or part.tensors or any(child.parameters and "Norm" not in child.type for child in others):
        return None
    name = next((n for child in part.children if (n := activation_name(child))), None)
    kind = ("gated_" if found.gated else "") + "feed_forward"
    counted = sum(linear.parameters for linear in linears)
    if name is None:
        return said(kind, width=found.width, inner=found.inner, parameters=counted)
    return said(f"{kind}_with", width=found.width, inner=found.inner, activation=name, parameters=counted)


def network(linears: Sequence[Part]) -> FeedForward | None:
    """The network that linear layers in this order make, if they make one."""
    found = [sizes for linear in linears if (sizes := linear_sizes(linear)) is not None]
    downs = [pair for pair in found if pair[0] > pair[1]]
    ups = [pair for pair in found if pair[0] < pair[1]]
    if len(downs) != 1 or len(ups) + 1 != len(found) or found[-1] != downs[0]:
        return None
    inner, width = downs[0]
    if ups == [(width, inner)]:
        return FeedForward(width, inner, gated=False)
    if ups in ([(width, inner)] * 2, [(width, 2 * inner)]):
        return FeedForward(width, inner, gated=True)
    return None
