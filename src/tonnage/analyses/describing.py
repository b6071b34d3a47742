"""What a module is made of, in its own notation: "Linear(768 -> 3072, bias)", "Conv2d(3 -> 64, 7 x 7, stride 2)".

What has its usual value is left out: no bias, a stride of 1, no padding, one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tonnage.analyses.parts import Part


def describe(part: Part) -> str:
    """The type of `part` and, for the layers that PyTorch and its libraries are made of, its sizes.

    >>> from tonnage.trace import Module
    >>> describe(Part(Module("head", "Linear", facts={"in_features": 768, "out_features": 2})))
    'Linear(768 -> 2)'
    """
    said = [text for text in _details(part) if text]
    return f"{part.type}({', '.join(said)})" if said else part.type


def sizes(shape: Iterable[int]) -> str:
    """The sizes of a tensor or window as people write them: "3 x 3"; a scalar has none."""
    return " x ".join(map(str, shape)) or "scalar"


def linear_sizes(part: Part) -> tuple[int, int] | None:
    """What a linear layer takes and gives, also where it is a Conv1D as in GPT-2."""
    facts = part.facts
    if "in_features" in facts and "out_features" in facts:
        return facts["in_features"], facts["out_features"]
    if part.type == "Conv1D" and "nx" in facts and "nf" in facts:
        return facts["nx"], facts["nf"]
    return None


def has_bias(part: Part) -> bool:
    return any(tensor.name == "bias" and tensor.kind == "parameter" for tensor in part.tensors)


def per_axis(value: Any, like: Sequence[Any]) -> tuple[Any, ...]:
    """One number for every axis, or the numbers as they are."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * len(like)


def _details(part: Part) -> Iterator[str]:
    facts = part.facts
    bias = "bias" if has_bias(part) else ""
    if linear := linear_sizes(part):
        yield from (f"{linear[0]} -> {linear[1]}", bias)
    elif "num_embeddings" in facts and "embedding_dim" in facts:
        yield f"{facts['num_embeddings']} x {facts['embedding_dim']}"
    elif "in_channels" in facts and "kernel_size" in facts and "groups" in facts:
        yield from (*_convolution(facts), bias)
    else:
        yield from _by_type(part)


def _convolution(facts: dict[str, Any]) -> Iterator[str]:
    kernel = per_axis(facts["kernel_size"], [0])
    yield f"{facts['in_channels']} -> {facts['out_channels']}"
    yield sizes(kernel) if len(kernel) > 1 else f"kernel {kernel[0]}"
    yield _unless("stride", facts.get("stride"), 1)
    yield _unless("padding", facts.get("padding"), 0)
    yield _unless("dilation", facts.get("dilation"), 1)
    yield _unless("groups", facts["groups"], 1)


def _pooling(part: Part) -> Iterator[str]:
    facts = part.facts
    axes = part.type[-2:-1]
    kernel = per_axis(facts["kernel_size"], range(int(axes) if axes.isdigit() else 1))
    yield sizes(kernel) if len(kernel) > 1 else f"kernel {kernel[0]}"
    yield _unless("stride", facts.get("stride"), 1)
    yield _unless("padding", facts.get("padding"), 0)
    yield _unless("dilation", facts.get("dilation"), 1)


def _recurrent(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{facts['input_size']} -> {facts['hidden_size']}"
    yield f"{facts['num_layers']} layers" if facts.get("num_layers", 1) > 1 else ""
    yield "bidirectional" if facts.get("bidirectional") else ""
    yield "" if facts.get("bias", True) else "no bias"


def _attention(facts: dict[str, Any]) -> Iterator[str]:
    yield str(facts["embed_dim"])
    yield f"{facts['num_heads']} heads"


_KNOWN: tuple[tuple[tuple[str, ...], Callable[[dict[str, Any]], Iterable[str]]], ...] = (
    (("normalized_shape",), lambda facts: [_plain(facts["normalized_shape"])]),
    (("num_groups", "num_channels"), lambda facts: [str(facts["num_channels"]), f"{facts['num_groups']} groups"]),
    (("num_features", "eps"), lambda facts: [str(facts["num_features"])]),
    (("input_size", "hidden_size", "num_layers"), _recurrent),
    (("embed_dim", "num_heads", "kdim"), _attention),
    (("output_size",), lambda facts: [f"to {_plain(facts['output_size'])}"]),
)
"""Attributes that tell a sort of layer, and what to say of it."""


def _by_type(part: Part) -> Iterable[str]:
    facts = part.facts
    for names, said in _KNOWN:
        if (not part.children or part.type == "MultiheadAttention") and all(name in facts for name in names):
            return said(facts)
    if "Pool" in part.type and "kernel_size" in facts:
        return _pooling(part)
    if "Dropout" in part.type and "p" in facts:
        return [f"{facts['p']:g}"]
    if len(part.tensors) == 1 and len(part.tensors[0].shape) == 1 and "Norm" in part.type:
        return [str(part.tensors[0].shape[0])]
    return []


def _unless(name: str, value: Any, usual: int) -> str:
    """The attribute, unless it has its usual value on every axis; an equal value on all axes is said once."""
    values = value if isinstance(value, tuple) else (value,)
    if value is None or all(v == usual for v in values):
        return ""
    return f"{name} {values[0] if len(set(values)) == 1 else _plain(values)}"


def _plain(value: Any) -> str:
    return sizes(value) if isinstance(value, tuple) else str(value)
