"""Exchanges for a convolution."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from msgspec import Struct

from tonnage.analyses.whatifs.exchange import Side, WhatIf, amount


class Convolution(Struct, frozen=True, kw_only=True):
    """A 2-d convolution without groups or dilation, by its sizes: `height` and `width` are of its input.

    `output` is the height and width that it gives; None for those of an odd kernel padded by half of it.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    height: int
    width: int
    output: tuple[int, int] | None = None
    stride: int = 1
    bias: bool = False
    batch: int = 1

    @property
    def half_padded_output(self) -> tuple[int, int]:
        """Padding by half an odd kernel leaves a position for every `stride` of the input, begun ones included."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def is_half_padded(self) -> bool:
        return self.output in (None, self.half_padded_output)


def receptive_field(*layers: tuple[int, int]) -> int:
    """Of convolutions one after another, each (kernel, stride): every one adds its kernel less 1, in strides so far.

    >>> receptive_field((3, 1), (3, 1), (3, 1)), receptive_field((3, 2), (3, 1))
    (7, 7)
    """
    return 1 + sum((kernel - 1) * prod(s for _, s in layers[:index]) for index, (kernel, _) in enumerate(layers))


def of_convolution(layer: Convolution, groups: int) -> Iterator[WhatIf]:
    """What can stand in the place of this one convolution."""
    kernel, other = layer.kernel
    square = kernel == other
    if square and kernel > 3 and kernel % 2 and layer.is_half_padded:
        yield _stack(layer)
    if square and kernel > 1:
        yield _crossed(layer)
    if prod(layer.kernel) > 1:
        yield _separable(layer)
        if groups > 1 and layer.in_channels % groups == layer.out_channels % groups == 0:
            yield _grouped(layer, groups)


def of_pair(layer: Convolution, reduction: int) -> Iterator[WhatIf]:
    """What can stand in the place of two of these, one after the other."""
    is_residual = layer.kernel == (3, 3) and layer.stride == 1 and layer.in_channels == layer.out_channels
    if is_residual and layer.is_half_padded and layer.in_channels % reduction == 0:
        yield _bottleneck(layer, reduction)


class _Formulas:
    """The symbols of a convolution, and its counts in them."""

    def __init__(self, layer: Convolution, **more: int) -> None:
        kernel, other = layer.kernel
        height, width = layer.output or layer.half_padded_output
        self.layer = layer
        self.area = "k^2" if kernel == other else "k_h*k_w"
        self.values = {
            "C_in": layer.in_channels,
            "C_out": layer.out_channels,
            "C": layer.in_channels,
            "k": kernel,
            "k_h": kernel,
            "k_w": other,
            "H": height,
            "W": width,
            "H_in": layer.height,
            "W_in": layer.width,
            "N": layer.batch,
            **more,
        }

    def side(self, what: str, parameters: str, biases: str, macs: str, field: int | None) -> Side:
        batched = f"N*({macs})" if self.layer.batch > 1 else macs
        return Side(
            what=what,
            parameters=amount(f"{parameters} + {biases}" if self.layer.bias else parameters, self.values),
            macs=amount(batched, self.values),
            receptive_field=field,
        )

    def before(self) -> Side:
        kernel, other = self.layer.kernel
        weights = f"C_in*C_out*{self.area}"
        field = kernel if kernel == other else None
        return self.side(f"{kernel}x{other}", weights, "C_out", f"{weights}*H*W", field)


def _stack(layer: Convolution) -> WhatIf:
    """Only the last has the stride, or more would be seen than before."""
    kernel = layer.kernel[0]
    count = (kernel - 1) // 2
    formulas = _Formulas(layer, m=count)
    weights = "3^2*C_in*C_out + (m - 1)*3^2*C_out^2"
    macs = f"({weights})*H*W"
    if layer.stride > 1:
        macs = "(3^2*C_in*C_out + (m - 2)*3^2*C_out^2)*H_in*W_in + 3^2*C_out^2*H*W"
    field = receptive_field(*[(3, 1)] * (count - 1), (3, layer.stride))
    return WhatIf(
        kind="stack",
        name=f"{count} of 3x3 for {kernel}x{kernel}",
        before=formulas.before(),
        after=formulas.side(f"{count} of 3x3", weights, "m*C_out", macs, field),
        remark="the last has the stride, so the others see the whole input" if layer.stride > 1 else "",
    )


def _crossed(layer: Convolution) -> WhatIf:
    """The first has stride and padding of the height alone, so it leaves the width as it was."""
    kernel = layer.kernel[0]
    formulas = _Formulas(layer)
    weights = "C_in*C_out*k + C_out^2*k"
    same_width = formulas.values["W"] == layer.width
    macs = f"({weights})*H*W" if same_width else "C_in*C_out*k*H*W_in + C_out^2*k*H*W"
    return WhatIf(
        kind="crossed",
        name=f"{kernel}x1 and 1x{kernel} for {kernel}x{kernel}",
        before=formulas.before(),
        after=formulas.side(f"{kernel}x1, 1x{kernel}", weights, "2*C_out", macs, kernel),
    )


def _separable(layer: Convolution) -> WhatIf:
    formulas = _Formulas(layer)
    before = formulas.before()
    weights = f"C_in*{formulas.area} + C_in*C_out"
    return WhatIf(
        kind="separable",
        name=f"depthwise separable for {before.what}",
        before=before,
        after=formulas.side(
            f"depthwise {before.what}, 1x1", weights, "C_in + C_out", f"({weights})*H*W", before.receptive_field
        ),
    )


def _grouped(layer: Convolution, groups: int) -> WhatIf:
    formulas = _Formulas(layer, G=groups)
    before = formulas.before()
    weights = f"C_in*C_out*{formulas.area}/G"
    what = f"{before.what} in {groups} groups"
    return WhatIf(
        kind="grouped",
        name=f"{groups} groups for {before.what}",
        before=before,
        after=formulas.side(what, weights, "C_out", f"C_in*C_out*{formulas.area}*H*W/G", before.receptive_field),
        remark="no output channel sees the inputs of another group",
    )


def _bottleneck(layer: Convolution, reduction: int) -> WhatIf:
    formulas = _Formulas(layer, r=reduction)
    pair = "2*3^2*C^2"
    weights = "C*C/r + 3^2*(C/r)^2 + C/r*C"
    return WhatIf(
        kind="bottleneck",
        name="1x1, 3x3, 1x1 for two 3x3",
        before=formulas.side("two 3x3", pair, "2*C", f"{pair}*H*W", receptive_field((3, 1), (3, 1))),
        after=formulas.side(
            f"1x1 to C/{reduction}, 3x3, 1x1 to C", weights, "2*C/r + C", f"({weights})*H*W", receptive_field((3, 1))
        ),
        remark="it sees less: one 3x3 where there were two",
    )
