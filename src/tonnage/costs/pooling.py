"""Pooling and interpolation: one operation for each point of the window, for each point of the result."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements
from tonnage.trace import Op

KIND = "pooling"


def _window(dims: int, kernel: int, *, backward: bool = False) -> Rule:
    """K^2 per point of the output, in two dimensions; argument `kernel` has one K or one for each."""

    def rule(op: Op) -> Cost:
        sizes: Sequence[int] = op.arguments[kernel]
        window = prod(sizes) if len(sizes) == dims else sizes[0] ** dims
        return Cost(KIND, flops=window * elements(op.inputs[0] if backward else op.outputs[0]))

    return rule


def _adaptive(dims: int, *, backward: bool = False) -> Rule:
    """Windows as long as it takes to cover the input: from floor(i * in / out) to ceil((i + 1) * in / out)."""

    def rule(op: Op) -> Cost:
        large, small = (op.inputs[1], op.inputs[0]) if backward else (op.inputs[0], op.outputs[0])
        read = 1
        for length, points in zip(large.shape[-dims:], small.shape[-dims:], strict=True):
            read *= sum(-(-(i + 1) * length // points) - i * length // points for i in range(points))
        return Cost(KIND, flops=prod(small.shape[:-dims]) * read)

    return rule


def _scattered(op: Op) -> Cost:
    """The gradient of a maximum goes to one point of the window."""
    return Cost(KIND, flops=elements(op.inputs[0]))


def _interpolated(taps: int, *, backward: bool = False) -> Rule:
    def rule(op: Op) -> Cost:
        return Cost("interpolation", flops=taps * elements(op.inputs[0] if backward else op.outputs[0]))

    return rule


_TAPS = {
    "upsample_linear1d": 2,
    "upsample_bilinear2d": 4,
    "_upsample_bilinear2d_aa": 4,
    "upsample_bicubic2d": 16,
    "_upsample_bicubic2d_aa": 16,
    "upsample_trilinear3d": 8,
    "grid_sampler_2d": 4,
    "cudnn_grid_sampler": 4,
    "grid_sampler_3d": 8,
}
"""Points that each point of the result is made of. An antialiased one takes more where it shrinks."""

RULES: dict[str, Rule] = {
    **{name: _window(dims, 1) for dims in (1, 2, 3) for name in (f"avg_pool{dims}d", f"max_pool{dims}d_with_indices")},
    "max_pool1d": _window(1, 1),
    **{f"avg_pool{dims}d_backward": _window(dims, 2, backward=True) for dims in (2, 3)},
    **{f"{name}_pool{dims}d": _adaptive(dims) for dims in (1, 2, 3) for name in ("_adaptive_avg", "adaptive_max")},
    **{f"_adaptive_avg_pool{dims}d_backward": _adaptive(dims, backward=True) for dims in (2, 3)},
    **{f"max_pool{dims}d_with_indices_backward": _scattered for dims in (2, 3)},
    **{f"adaptive_max_pool{dims}d_backward": _scattered for dims in (2, 3)},
    **{f"fractional_max_pool{dims}d": _window(dims, 1) for dims in (2, 3)},
    **{f"fractional_max_pool{dims}d_backward": _scattered for dims in (2, 3)},
    **{name: _interpolated(taps) for name, taps in _TAPS.items()},
    **{f"{name}_backward": _interpolated(taps, backward=True) for name, taps in _TAPS.items()},
}
