"""Which experts unknown tokens go to: a stand-in that spreads them evenly.

A router takes the largest of the scores of a token (`topk`, `argmax`, `max`), and what follows depends on which they
are: each expert is given the tokens that chose it. How many that is altogether, tokens times experts per token, does
not depend on the scores, and that training keeps the experts evenly used is what a router's auxiliary loss is for.
"""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten

MOST_EXPERTS = 1024
"""A choice among more is taken for one of words or boxes."""

SAYS = "the routing to experts is unknown: tokens are spread evenly over them"


def choice(func: Any, args: Any, out: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The indices among the outputs of an operator that chooses the largest of unknown scores, and what stands in."""
    if func not in _DIMENSION:
        return None
    scores, dim = args[0], args[_DIMENSION[func]] if len(args) > _DIMENSION[func] else _DEFAULT[func]
    if dim is None or not scores.dim() or not scores.is_floating_point():
        return None
    indices, experts = out if isinstance(out, torch.Tensor) else out[1], scores.shape[dim]
    if not 0 < experts <= MOST_EXPERTS:
        return None
    keeps = indices.dim() == scores.dim()
    shape = indices.movedim(dim, -1).shape if keeps else indices.shape
    spread = torch.arange(indices.numel(), device="cpu").remainder_(experts).view(shape)
    return indices, (spread.movedim(-1, dim) if keeps else spread)


_DIMENSION = {aten.topk.default: 2, aten.argmax.default: 1, aten.max.dim: 1}
"""The place of the dimension among the arguments."""
_DEFAULT = {aten.topk.default: -1, aten.argmax.default: None, aten.max.dim: None}
