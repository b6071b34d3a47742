"""The same exchange for every convolution of a model that offers it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tonnage.analyses.passes import last_step
from tonnage.analyses.whatifs.convolutions import Convolution, of_convolution
from tonnage.analyses.whatifs.exchange import Kind, WhatIf
from tonnage.trace import Op, Trace

_NAMES: dict[Kind, str] = {
    "stack": "3x3 one after another for 5x5 and larger",
    "crossed": "kx1 and 1xk for kxk",
    "separable": "depthwise separable for standard",
    "grouped": "{groups} groups for one",
}
"""Bottlenecks are left out: they replace two convolutions, and which two belong together is not known."""
_STRIDE, _DILATION, _TRANSPOSED, _GROUPS = 3, 5, 6, 8
"""Places among the arguments of `aten.convolution`."""


class LayerWhatIf(Struct, frozen=True, kw_only=True):
    """The exchange for one call of the convolution at `path`; `repeated` for every call but the first."""

    path: str
    what_if: WhatIf
    repeated: bool = False


class ModelWhatIf(Struct, frozen=True, kw_only=True):
    """One exchange made wherever a model offers it.

    `convolutions` counts the model's 2-d convolutions, each call; `layers` has those that are exchanged. Parameters and
    MACs are of these alone: what else the model has stays the same.
    """

    kind: Kind
    name: str
    convolutions: int
    layers: list[LayerWhatIf]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int


def model_what_ifs(trace: Trace, *, groups: int = 32) -> list[ModelWhatIf]:
    """The exchanges for the convolutions of the forward pass in `trace`, fewest MACs of the exchanged layers first.

    Transposed, dilated and grouped convolutions stay as they are, and those of one or three dimensions.
    """
    found = list(_convolutions(trace))
    by_kind: dict[Kind, list[LayerWhatIf]] = {}
    seen: set[tuple[Kind, str]] = set()
    for path, convolution in found:
        for what_if in of_convolution(convolution, groups) if convolution else ():
            key = (what_if.kind, path)
            by_kind.setdefault(what_if.kind, []).append(
                LayerWhatIf(path=path, what_if=what_if, repeated=bool(path) and key in seen)
            )
            seen.add(key)
    exchanged = [
        _summed(kind, name.format(groups=groups), by_kind[kind], len(found))
        for kind, name in _NAMES.items()
        if kind in by_kind
    ]
    return sorted(exchanged, key=lambda e: e.macs_after / e.macs_before)


def _summed(kind: Kind, name: str, layers: list[LayerWhatIf], convolutions: int) -> ModelWhatIf:
    first = [layer.what_if for layer in layers if not layer.repeated]
    return ModelWhatIf(
        kind=kind,
        name=name,
        convolutions=convolutions,
        layers=layers,
        parameters_before=sum(what_if.before.parameters.value for what_if in first),
        parameters_after=sum(what_if.after.parameters.value for what_if in first),
        macs_before=sum(layer.what_if.before.macs.value for layer in layers),
        macs_after=sum(layer.what_if.after.macs.value for layer in layers),
    )


def _convolutions(trace: Trace) -> Iterator[tuple[str, Convolution | None]]:
    """Each 2-d convolution of the forward pass with the path of its module; None for one that stays as it is."""
    step = last_step(trace)
    for op, during in zip(trace.ops[step.begin : step.end], step.passes, strict=True):
        if op.name == "aten.convolution.default" and during == "forward" and len(op.inputs[0].shape) == 4:
            yield trace.modules[op.module].path, _convolution(op)


def _convolution(op: Op) -> Convolution | None:
    arguments = op.arguments
    stride, *others = set(arguments[_STRIDE])
    if others or arguments[_TRANSPOSED] or arguments[_GROUPS] > 1 or set(arguments[_DILATION]) != {1}:
        return None
    batch, in_channels, height, width = op.inputs[0].shape
    out_channels, _, *kernel = op.inputs[1].shape
    return Convolution(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=(kernel[0], kernel[1]),
        height=height,
        width=width,
        output=(op.outputs[0].shape[2], op.outputs[0].shape[3]),
        stride=stride,
        bias=len(op.inputs) > 2,
        batch=batch,
    )
