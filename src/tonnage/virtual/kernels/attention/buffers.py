"""What the kernels of attention take for themselves.

ATen/native/transformers/cuda: flash_attn/flash_api.cpp (mha_fwd, mha_bwd), attention_backward.cu
(_flash_attention_backward, _efficient_attention_backward) and mem_eff_attention/kernel_backward.h; cudnn/MHA.cpp for
cuDNN's, with the cuDNN frontend that it calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tonnage.virtual.kernels.attention.backends import HALVES
from tonnage.virtual.kernels.buffers import dense_copies

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def flash_splits(batch_heads: int, rows: int, columns: int, head_size: int, sm_count: int) -> int:
    """Into how many parts flash forward splits the keys when the grid is small (num_splits_heuristic)."""
    width = 256 if head_size <= 64 else 128 if head_size <= 128 else 64
    blocks, work, capacity = -(-columns // width), batch_heads * -(-rows // 64), 2 * sm_count
    if work >= 0.8 * capacity:
        return 1
    limit = min(128, capacity, blocks)
    efficiency = {
        splits: (work * splits / capacity) / -(-work * splits // capacity)
        for splits in range(1, limit + 1)
        if splits == 1 or -(-blocks // splits) != -(-blocks // (splits - 1))
    }
    best = max(efficiency.values())
    return next(splits for splits, value in efficiency.items() if value >= 0.85 * best)


def _flash_forward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    query, key = args[0], args[1]
    batch, heads, rows, head_size = query.shape
    dropout = args[3] if len(args) > 3 else 0.0
    splits = 1 if dropout else flash_splits(batch * heads, rows, key.shape[-2], head_size, gpu.card.sm_count)
    if splits > 1:
        rounded = _up(head_size, 32 if head_size <= 128 else 64)
        yield splits * batch * heads * rows * 4
        yield splits * batch * heads * rows * rounded * 4


def _heads_copied(tensor: Tensor) -> Iterator[int]:
    """`.contiguous()` of a tensor whose heads were moved behind its rows."""
    yield from dense_copies(tensor.transpose(1, 2))


def _flash_backward_copies(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """_flash_attention_backward makes the incoming gradient and the output dense before it makes dq, dk and dv."""
    yield from _heads_copied(args[0])
    yield from _heads_copied(args[4])


def _flash_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """mha_bwd of flash_api.cpp: softmax_d, dq_accum and, where heads are grouped, dk and dv for every query head."""
    query, key = args[1:3]
    batch, heads, rows, head_size = query.shape
    rows_up, head_up = _up(rows, 128), _up(head_size, 32 if head_size <= 128 else 64)
    yield batch * heads * rows_up * 4
    deterministic = (
        torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    )
    splits = -(-gpu.card.sm_count // (batch * heads)) if deterministic else 1
    yield splits * batch * rows_up * heads * head_up * 4
    if key.shape[1] != heads:
        expanded = batch * key.shape[2] * heads * head_size * key.element_size()
        yield expanded
        yield expanded


def _efficient_forward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """kernel_forward.h, kNeedsOutputAccumulatorBuffer: large heads in 16 bits are added up in fp32."""
    query, value = args[0], args[2]
    if query.dtype in HALVES and value.shape[-1] > 128:
        yield query.shape[0] * query.shape[1] * query.shape[2] * value.shape[-1] * 4


def _efficient_backward_copies(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    yield from _heads_copied(args[0])


def _efficient_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """_efficient_attention_backward of attention_backward.cu: delta, then the workspace.

    A kernel that does not compute delta itself (fp32, and fp16 of large heads on 7.0) is given it: the product of the
    gradient and the output, summed over the head and laid out anew. The temporaries die with that expression.
    """
    grad, query, key, value = args[:4]
    batch, heads, rows, _ = query.shape
    capability, delta = gpu.card.compute_capability, batch * heads * rows * 4
    tile = efficient_tile(query.shape[3], value.shape[3], query.dtype, capability, dropout=args[9] > 0)
    if query.dtype is torch.float32 or (tile.outside and capability < (7, 5)):
        wide = grad.numel() * 4
        casts = [wide, wide] if query.dtype is not torch.float32 else []
        moved = [delta] if min(rows, heads) > 1 else []
        yield from (*casts, wide, delta, *moved)
        yield from (*(-n for n in moved), -wide, *(-n for n in casts))
    else:
        yield delta
    yield efficient_workspace(
        tile, batch * heads, rows, key.shape[2], query.shape[3], value.shape[3], capability=capability
    )


def _cudnn(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    gpu.not_counted("cuDNN's attention workspaces", "the library chooses the size of its own part")
    yield from ()


def _cudnn_backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """The frontend's part: dQ is added up in fp32, and each row's sum of dO * O stands beside it.

    cudnn_frontend/node/scaled_dot_product_flash_attention.h, CompositeSDPABackwardNode, get_fe_workspace_size_node;
    cuDNN's plan adds a part of its own.
    """
    query = args[1]
    batch, heads, rows, head_size = query.shape
    yield batch * heads * rows * (head_size + 1) * 4
    yield from _cudnn(gpu, args, kwargs)


class Tile(NamedTuple):
    """The kernel that is taken: its block of queries and keys, and where its outputs are added up."""

    queries: int
    keys: int
    outside: bool
    """Gradients of keys and values do not stay in registers, and are not fp32 themselves (kNeedsAccumGradK)."""
    half: bool


def _safe_softmax(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """attention.cpp: a plain softmax, minus infinity, where scores are it, which rows are, zero; then the output."""
    scores, dim = args[:2]
    if scores.is_meta and scores.numel():
        yield scores.numel() * scores.element_size()
        yield scores.element_size()
        yield scores.numel()
        yield scores.numel() // scores.shape[dim]
        yield scores.element_size()


def efficient_tile(
    head_size: int, value_size: int, dtype: torch.dtype, capability: tuple[int, int], *, dropout: bool
) -> Tile:
    """The first kernel of its list in cutlassB.h whose largest head fits.

    Whether one of 128 x 128 fits the shared memory is not in the source; it is taken on 8.0, 9.0 and 10.x (assumed).
    """
    half, largest = dtype in HALVES, max(head_size, value_size)
    if largest <= 64:
        return Tile(64, 64, False, half)
    if not half:
        return Tile(128 if capability >= (8, 0) else 64, 64, False, half)
    if largest <= 96 and capability in {(8, 6), (8, 9)} and not dropout:
        return Tile(128, 64, False, half)
    if largest <= 128 and capability in {(8, 0), (9, 0), (10, 0), (10, 3)}:
        return Tile(128, 128, False, half)
    return Tile(64, 64, True, half)


def efficient_workspace(
    tile: Tile,
    batch_heads: int,
    rows: int,
    columns: int,
    head_size: int,
    value_size: int,
    *,
    capability: tuple[int, int],
) -> int:
    """Bytes of the fp32 accumulators of the mem-efficient backward kernel (kernel_backward.h, workspace_size)."""
    total = 0
    if capability >= (7, 0) or tile.half:
        blocks = -(-rows // tile.queries) * -(-head_size // tile.keys)
        total += blocks * (tile.queries * tile.keys * 4 + 16) // 4
    if tile.outside:
        splits = _efficient_splits(batch_heads, columns, tile, capability)
        total += splits * tile.keys * (_up(head_size, tile.queries) + _up(value_size, tile.queries))
    return batch_heads * _up(total, 4) * 4


def _efficient_splits(batch_heads: int, columns: int, tile: Tile, capability: tuple[int, int]) -> int:
    """num_splits_key: the keys are split unless blocks without end do, or scratch for each split would be needed."""
    splits = -(-columns // tile.keys)
    if batch_heads >= 256 and columns <= 2 * tile.keys:
        splits = 1
    if tile.outside:
        splits = min(splits, 200 // batch_heads)
    return max(splits, 1) if capability >= (7, 0) else 1


EARLY = {
    aten._safe_softmax.default: _safe_softmax,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward_copies,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward_copies,
}
SCRATCH = {
    aten._scaled_dot_product_flash_attention.default: _flash_forward,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention.default: _efficient_forward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    aten._scaled_dot_product_cudnn_attention.default: _cudnn,
    aten._scaled_dot_product_cudnn_attention_backward.default: _cudnn_backward,
}


def _flash_seeds(gpu: VirtualGpu) -> tuple[int, ...]:
    return () if gpu.rules.keeps_flash_seeds_on_card else (2, 3)


def _efficient_seeds(gpu: VirtualGpu) -> tuple[int, ...]:
    return (2, 3)


HOST_OUTPUTS = {
    aten._scaled_dot_product_flash_attention.default: _flash_seeds,
    aten._scaled_dot_product_efficient_attention.default: _efficient_seeds,
}
"""Which of the tensors that come out are in host memory on CUDA outside of graph capture: seeds and offsets."""
