"""Blocks and stacks of them."""

from __future__ import annotations

from collections.abc import Iterator

from tonnage.analyses.components.attention import attentions, is_cross
from tonnage.analyses.components.experts import experts
from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.components.feedforward import FeedForward, network
from tonnage.analyses.components.sequences import ssm_mixer
from tonnage.analyses.describing import linear_sizes, sizes
from tonnage.analyses.parts import Model, Part

_RESIDUAL = ("BasicBlock", "Bottleneck", "BottleNeckLayer", "ResNetBasicLayer")
_SHORTCUTS = ("downsample", "shortcut")
_LISTS = {"ModuleList", "Sequential"}


def residual_block(part: Part, model: Model) -> Explanation | None:
    """ResNet's blocks: convolutions whose result is added to what came in."""
    if not part.type.endswith(_RESIDUAL):
        return None
    shortcut = next((part.by_name[name] for name in _SHORTCUTS if name in part.by_name), None)
    convolutions = [p for child in part.children if child is not shortcut for p in _convolutions(child)]
    if not 2 <= len(convolutions) <= 3:
        return None
    numbers: dict[str, int | str] = {
        "convolutions": ", ".join(sizes(c.facts["kernel_size"]) for c in convolutions),
        "inputs": convolutions[0].facts["in_channels"],
        "outputs": convolutions[-1].facts["out_channels"],
    }
    projections = list(_convolutions(shortcut)) if shortcut is not None else []
    if not projections and numbers["inputs"] == numbers["outputs"]:
        return said("residual_block", **numbers)
    if len(projections) == 1:
        return said("residual_block_projected", **numbers, shortcut=sizes(projections[0].facts["kernel_size"]))
    return None


def transformer_block(part: Part, model: Model) -> Explanation | None:
    """One of a numbered series that holds attention and one feed-forward network, or experts in its place."""
    if not part.name[-1:].isdigit() or part.type in _LISTS:
        return None
    found = list(attentions(part, model))
    crossed = [is_cross(p, model) for p in found]
    if crossed not in ([False], [False, True]):
        return None
    if any(transformer_block(below, model) for child in part.children for below in child.walk()):
        return None
    routed = next((e for below in part.walk() if (e := experts(below, model))), None)
    if routed is not None:
        numbers = {name: routed.numbers[name] for name in ("experts", "picked")}
        return None if any(crossed) else said("expert_block", **numbers, parameters=part.parameters)
    inside = block_network(part, found)
    if inside is None:
        return None
    kind = ("gated_" if inside.gated else "") + ("cross_block" if any(crossed) else "transformer_block")
    return said(kind, width=inside.width, inner=inside.inner, parameters=part.parameters)


def stack(part: Part, model: Model) -> Explanation | None:
    """A part whose own list of blocks, all of one type, are transformer blocks or hold a state space mixer each."""
    lists = [child for child in part.children if child.type in _LISTS and len(child.children) > 1]
    if len(lists) != 1:
        return None
    blocks = lists[0].children
    if len({block.type for block in blocks}) != 1 or not all(_is_block(block, model) for block in blocks):
        return None
    kind = next((f"{sort}_stack" for sort in ("encoder", "decoder") if sort in part.name.lower()), "stack")
    return said(kind, blocks=len(blocks), type=blocks[0].type, parameters=sum(b.parameters for b in blocks))


def _is_block(part: Part, model: Model) -> bool:
    return transformer_block(part, model) is not None or any(ssm_mixer(child, model) for child in part.children)


def block_network(block: Part, attending: list[Part]) -> FeedForward | None:
    """The feed-forward network of a block: of its linear layers outside attention those that change the width."""
    return network([p for p in _linears(block, attending) if len(set(linear_sizes(p) or ())) == 2])


def _linears(part: Part, leave_out: list[Part]) -> Iterator[Part]:
    for child in part.children:
        if any(child is other for other in leave_out):
            continue
        if linear_sizes(child):
            yield child
        else:
            yield from _linears(child, leave_out)


def _convolutions(part: Part) -> Iterator[Part]:
    return (p for p in part.walk() if "in_channels" in p.facts and p.tensor("weight") is not None)
