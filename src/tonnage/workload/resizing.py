"""The sizes of a model's inputs by the letters people use, and inputs of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from tonnage.errors import BadOption
from tonnage.scenario import Scenario
from tonnage.workload.workload import Inputs, Workload

BATCH, SEQ, DECODER, SIDE = "B", "S", "T", "n"
"""Samples, tokens each (of the encoder, where there are two), tokens of the decoder, pixels to a side."""
NAMES = {BATCH: "batch", SEQ: "seq", DECODER: "decoder_seq", SIDE: "image_size"}


@dataclass(frozen=True)
class Resizable:
    """Inputs that can be made in other sizes: `sizes` are those of now, by letter."""

    sizes: Mapping[str, int]
    at: Callable[[nn.Module, Mapping[str, int]], Inputs]


def of_scenario(workload: Workload, model: nn.Module, scenario: Scenario, made: Inputs) -> Resizable:
    """Inputs that `workload` makes: it makes them anew, and what only the decoder sees is stretched."""
    sizes = {BATCH: scenario.batch}
    for letter, option in ((SEQ, "seq"), (SIDE, "image_size")):
        value = getattr(scenario, option) or _default(made, letter)
        changed: dict[str, Any] = {option: value}
        if value and _takes(workload, model, replace(scenario, **changed)):
            sizes[letter] = value
    lengths = {tensor.shape[1] for name, tensor in _decoder_inputs(made)}
    if len(lengths) == 1:
        sizes[DECODER] = lengths.pop()

    def at(model: nn.Module, wanted: Mapping[str, int]) -> Inputs:
        options: dict[str, Any] = {NAMES[letter]: size for letter, size in wanted.items() if letter != DECODER}
        made = workload.make_inputs(model, replace(scenario, **options))
        kwargs = dict(made.kwargs)
        if DECODER in wanted:
            for name, tensor in _decoder_inputs(made):
                kwargs[name] = _filled(tensor, (tensor.shape[0], wanted[DECODER], *tensor.shape[2:]))
        return replace(made, kwargs=kwargs)

    return Resizable(sizes, at)


def of_given(model: nn.Module, given: Inputs) -> Resizable:
    """The user's own inputs: a letter for each dimension that is a batch, a length or the side of an image."""
    leaves, spec = tree_flatten((given.args, dict(given.kwargs)))
    names = _leaf_names(given)
    letters = dict(_letters(model, leaves, names))
    sizes = {letter: leaves[index].shape[place] for (index, place), letter in letters.items()}

    def at(model: nn.Module, wanted: Mapping[str, int]) -> Inputs:
        resized = list(leaves)
        for index, leaf in enumerate(leaves):
            if isinstance(leaf, torch.Tensor):
                shape = [wanted.get(letters.get((index, place), ""), size) for place, size in enumerate(leaf.shape)]
                resized[index] = _filled(leaf, tuple(shape))
        args, kwargs = tree_unflatten(resized, spec)
        return replace(given, args=args, kwargs=kwargs)

    return Resizable(sizes, at)


def _default(made: Inputs, letter: str) -> int:
    """The size that the inputs were made in where the scenario does not say: of the ids, or of the pixels."""
    for name, value in (*made.kwargs.items(), *enumerate(made.args)):
        if isinstance(value, torch.Tensor) and not str(name).startswith("decoder"):
            if letter == SEQ and value.dim() == 2 and not value.is_floating_point():
                return value.shape[1]
            if letter == SIDE and value.dim() >= 4 and value.is_floating_point() and value.shape[-1] == value.shape[-2]:
                return value.shape[-1]
    return 0


def _takes(workload: Workload, model: nn.Module, scenario: Scenario) -> bool:
    try:
        workload.make_inputs(model, scenario)
    except BadOption:
        return False
    return True


def _decoder_inputs(made: Inputs) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in made.kwargs.items():
        if name.startswith("decoder_") and isinstance(value, torch.Tensor) and value.dim() >= 2:
            yield name, value


def _leaf_names(given: Inputs) -> list[str]:
    """The name of each leaf: its keyword, or "" for a positional one."""
    names = [""] * len(tree_flatten(given.args)[0])
    for name, value in given.kwargs.items():
        names += [name] * len(tree_flatten(value)[0])
    return names


def _letters(model: nn.Module, leaves: list[Any], names: list[str]) -> Iterator[tuple[tuple[int, int], str]]:
    """(leaf, dimension) to letter. Two lengths are S and T; a third would have no letter, and stays as it is."""
    lengths: dict[tuple[int, bool], str] = {}
    batch_at = 1 if getattr(model, "batch_first", True) is False else 0
    batches = {leaf.shape[batch_at] for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim() >= 2}
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, torch.Tensor) or leaf.dim() == 0:
            continue
        if leaf.dim() == 1:
            if batches == {leaf.shape[0]}:
                yield (index, 0), BATCH
            continue
        if len(batches) == 1:
            yield (index, batch_at), BATCH
        if leaf.dim() == 4 and leaf.is_floating_point() and leaf.shape[2] == leaf.shape[3]:
            yield (index, 2), SIDE
            yield (index, 3), SIDE
        elif leaf.dim() == (3 if leaf.is_floating_point() else 2):
            decodes = names[index].startswith("decoder")
            key = (leaf.shape[1 - batch_at], decodes)
            letter = lengths.get(key) or (DECODER if decodes else _next(lengths.values()))
            if letter:
                lengths[key] = letter
                yield (index, 1 - batch_at), letter


def _next(used: Any) -> str:
    return next((letter for letter in (SEQ, DECODER) if letter not in used), "")


def _filled(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of `shape` like `tensor`, whose values are its first one over and over."""
    if tensor.is_meta or not tensor.numel():
        return torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    return torch.full(shape, tensor.reshape(-1)[0].item(), dtype=tensor.dtype, device=tensor.device)
