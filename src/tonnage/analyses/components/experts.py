"""Mixture of experts: the router that picks experts for each token, and the experts."""

from __future__ import annotations

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.parts import Model, Part

_PICKED = ("top_k", "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "topk")
_LISTS = {"ModuleList", "ModuleDict"}


def router(part: Part, model: Model) -> Explanation | None:
    """A linear layer, or a module that holds its weight alone, beside the experts it chooses among."""
    weight = part.tensor("weight")
    parent = model.parent(part)
    if weight is None or part.children or parent is None or len(weight.shape) != 2:
        return None
    count = next((n for sibling in parent.children if (n := expert_count(sibling))), None)
    picked = _picked(part, model)
    if count is None or picked is None or weight.shape[0] != count or expert_count(part) is not None:
        return None
    return said("router", experts=count, picked=picked, width=weight.shape[1], parameters=part.own_parameters)


def experts(part: Part, model: Model) -> Explanation | None:
    count, picked = expert_count(part), _picked(part, model)
    if count is None or picked is None or part.parameters % count:
        return None
    each = part.parameters // count
    return said("experts", experts=count, picked=picked, each=each, parameters=part.parameters, active=picked * each)


def expert_count(part: Part) -> int | None:
    """How many experts a part holds: as a list of equal modules, or stacked in tensors of three dimensions."""
    if "expert" not in part.name.lower() + part.type.lower():
        return None
    if part.type in _LISTS:
        return len(part.children) if len(part.children) > 1 and len({c.type for c in part.children}) == 1 else None
    stacked = {t.shape[0] for t in part.tensors if t.kind == "parameter" and len(t.shape) == 3}
    count = part.facts.get("num_experts")
    if len(stacked) != 1 or (count is not None and {count} != stacked):
        return None
    return stacked.pop()


def _picked(part: Part, model: Model) -> int | None:
    """Experts per token: an attribute of the part, of its siblings, or of what they are in."""
    parent = model.parent(part)
    owners = [part, *(parent.children if parent else ()), *([parent] if parent else ()), model.root]
    for owner in owners:
        for name in _PICKED:
            value = owner.facts.get(name)
            if type(value) is int and value > 0:
                return value
    return None
