"""Scaled-dot-product attention: which backend CUDA takes, what it keeps and what it scratches.

The choice is ATen/native/transformers/cuda/sdp_utils.cpp, select_sdp_backend; what is done to the inputs first is
transformers/attention.cpp, scaled_dot_product_attention; the scratch of the kernels is flash_attn/flash_api.cpp
(mha_fwd, mha_bwd), cuda/attention_backward.cu and mem_eff_attention/kernel_backward.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from tonnage.virtual.layer import active_gpu, behind

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
Tensor = torch.Tensor

HALVES = (torch.float16, torch.bfloat16)
FLASH_HEAD_MULTIPLE = 8
MASK_MULTIPLE = 8
"""The mem-efficient kernel wants mask rows of this many elements (attention.cpp, preprocess_mask)."""


@dataclass(frozen=True)
class Call:
    """One call of scaled_dot_product_attention."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout: float
    causal: bool
    gqa: bool

    @property
    def needs_grad(self) -> bool:
        return torch.is_grad_enabled() and any(t.requires_grad for t in (self.query, self.key, self.value))

    @property
    def head_size(self) -> int:
        return self.query.shape[-1]

    @property
    def plain(self) -> bool:
        """Four-dimensional, of one type, with something in it."""
        tensors = (self.query, self.key, self.value)
        return (
            all(t.dim() == 4 and t.dtype == self.query.dtype for t in tensors)
            and self.query.shape[-2] > 0
            and self.key.shape[-2] > 0
        )

    @property
    def last_dims_contiguous(self) -> bool:
        return all(t.stride(-1) == 1 for t in (self.query, self.key, self.value))

    @property
    def heads_match(self) -> bool:
        query, key, value = (t.shape[1] for t in (self.query, self.key, self.value))
        return query == key == value


def takes_flash(call: Call, capability: tuple[int, int]) -> bool:
    query, key, value = call.query, call.key, call.value
    heads_fit = call.heads_match or (call.gqa and key.shape[1] == value.shape[1] and query.shape[1] % key.shape[1] == 0)
    return (
        (8, 0) <= capability <= (12, 1)
        and query.dtype in HALVES
        and call.mask is None
        and query.shape[-1] == key.shape[-1] == value.shape[-1] <= 256
        and heads_fit
        and call.last_dims_contiguous
        and not (call.causal and query.shape[-2] != key.shape[-2])
        and not (call.needs_grad and _flash_backward_unsupported(call, capability))
    )


def _flash_backward_unsupported(call: Call, capability: tuple[int, int]) -> bool:
    """Small shared memory: SM 8.6 to 8.9 and 12.x cannot run backward for some of the largest heads."""
    if not ((8, 6) <= capability <= (8, 9) or (12, 0) <= capability <= (12, 1)):
        return False
    return 192 < call.head_size <= 224 or (call.head_size > 224 and call.dropout > 0)


def takes_efficient(call: Call, capability: tuple[int, int]) -> bool:
    dtypes = (torch.float16, torch.float32, *((torch.bfloat16,) if capability >= (8, 0) else ()))
    align = _alignment(call.query.dtype, capability)
    mask = call.mask
    return (
        (5, 0) <= capability <= (12, 1)
        and call.query.dtype in dtypes
        and call.heads_match
        and call.head_size == call.key.shape[-1]
        and call.head_size % align == 0
        and call.value.shape[-1] % align == 0
        and call.last_dims_contiguous
        and (mask is None or mask.stride(-1) == 1 or mask.shape[-1] == 1)
    )


def _alignment(dtype: torch.dtype, capability: tuple[int, int]) -> int:
    """minimum_gemm_alignment of sdp_utils.cpp."""
    if dtype in HALVES:
        return 8 if capability >= (7, 0) else 1
    return 4 if capability >= (8, 0) else 1


def takes_cudnn(call: Call, capability: tuple[int, int]) -> bool:
    limit = 256 if capability == (9, 0) else 128
    query, key, value = call.query, call.key, call.value
    heads_fit = call.heads_match or (call.gqa and query.shape[1] % key.shape[1] == 0)
    return (
        (8, 0) <= capability <= (12, 1)
        and query.dtype in HALVES
        and all(t.shape[-1] <= limit and t.shape[-1] % 8 == 0 for t in (query, key, value))
        and heads_fit
        and call.last_dims_contiguous
        and key.shape[-2] > 1
        and not (query.shape[-2] == 1 and call.dropout > 0)
        and not (call.mask is not None and call.mask.requires_grad)
        and not torch.are_deterministic_algorithms_enabled()
    )


def choose(gpu: VirtualGpu, call: Call) -> str:
    """ "flash", "efficient", "cudnn" or "math", as select_sdp_backend would on the card."""
    capability = gpu.card.compute_capability
    if not call.plain:
        return "math"
    enabled = torch.backends.cuda
    usable = {
        "flash": enabled.flash_sdp_enabled() and takes_flash(call, capability),
        "efficient": enabled.mem_efficient_sdp_enabled() and takes_efficient(call, capability),
        "cudnn": enabled.cudnn_sdp_enabled() and takes_cudnn(call, capability),
        "math": enabled.math_sdp_enabled(),
    }
    order = ["flash", "efficient", "math", "cudnn"]
    if gpu.rules.prefers_cudnn_attention:
        order = ["cudnn", "flash", "efficient", "math"]
    backend = next((name for name in order if usable[name]), None)
    if backend is None:
        raise RuntimeError("No available kernel. Aborting execution.")
    return backend


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The composite operator as CUDA runs it."""
    gpu = active_gpu()
    cast = gpu.autocast.lower
    query, key, value, attn_mask = cast(query), cast(key), cast(value), cast(attn_mask)
    if not query.is_meta:
        with behind():
            out: Tensor = aten.scaled_dot_product_attention.default(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        return out
    call = Call(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    backend = choose(gpu, call)
    with gpu.autocast.off():
        return _BACKENDS[backend](call, scale)


def _scale(call: Call, scale: float | None) -> float:
    return scale if scale is not None else float(call.head_size) ** -0.5


def _flash(call: Call, scale: float | None) -> Tensor:
    pad = -call.head_size % FLASH_HEAD_MULTIPLE
    query, key, value = (F.pad(t, (0, pad)) if pad else t for t in (call.query, call.key, call.value))
    out: Tensor = aten._scaled_dot_product_flash_attention.default(
        query, key, value, call.dropout, call.causal, False, scale=_scale(call, scale)
    )[0]
    return out[..., : call.head_size] if pad else out


def _efficient(call: Call, scale: float | None) -> Tensor:
    out: Tensor = aten._scaled_dot_product_efficient_attention.default(
        call.query, call.key, call.value, _bias(call), call.needs_grad, call.dropout, call.causal, scale=scale
    )[0]
    return out


def _cudnn(call: Call, scale: float | None) -> Tensor:
    mask = _additive(call)
    out: Tensor = aten._scaled_dot_product_cudnn_attention.default(
        call.query, call.key, call.value, mask, call.needs_grad, call.dropout, call.causal, False, scale=scale
    )[0]
    return out


def _math(call: Call, scale: float | None) -> Tensor:
    out: Tensor = aten._scaled_dot_product_attention_math.default(
        call.query,
        call.key,
        call.value,
        _additive(call),
        call.dropout,
        call.causal,
        None,
        scale=scale,
        enable_gqa=call.gqa,
    )[0]
    return out


_BACKENDS = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn, "math": _math}


def _additive(call: Call) -> Tensor | None:
    """The mask as numbers to add (attention.cpp, convert_boolean_attn_mask): a bool one is written out."""
    mask = call.mask
    if mask is None or mask.dtype is not torch.bool:
        return mask
    zero = torch.scalar_tensor(0.0, dtype=call.query.dtype, device=mask.device)
    return torch.where(mask.logical_not(), float("-inf"), zero)


def _bias(call: Call) -> Tensor | None:
    """The mask as the mem-efficient kernel takes it: rows padded to a multiple of 8, then expanded."""
    mask = _additive(call)
    if mask is None:
        return None
    if any(mask.stride(d) % MASK_MULTIPLE for d in range(mask.dim() - 1)):
        columns = mask.shape[-1]
        mask = F.pad(mask, (0, -columns % MASK_MULTIPLE))[..., :columns]
    batch, heads, rows, _ = call.query.shape
    return mask.expand(batch, heads, rows, call.key.shape[-2])


# Scratch of the kernels -----------------------------------------------------------------------------------------------


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


def _flash_forward(gpu: VirtualGpu, args: Any) -> Iterator[int]:
    query, key = args[0], args[1]
    batch, heads, rows, head_size = query.shape
    dropout = args[3] if len(args) > 3 else 0.0
    splits = 1 if dropout else flash_splits(batch * heads, rows, key.shape[-2], head_size, gpu.card.sm_count)
    if splits > 1:
        rounded = _up(head_size, 32 if head_size <= 128 else 64)
        yield splits * batch * heads * rows * 4
        yield splits * batch * heads * rows * rounded * 4


def _flash_backward(gpu: VirtualGpu, args: Any) -> Iterator[int]:
    grad, query, key = args[:3]
    batch, heads, rows, head_size = query.shape
    rows_up, head_up = _up(rows, 128), _up(head_size, 32 if head_size <= 128 else 64)
    if not grad.transpose(1, 2).is_contiguous():
        yield grad.numel() * grad.element_size()
    yield batch * heads * rows_up * 4
    yield batch * rows_up * heads * head_up * 4
    if key.shape[1] != heads:
        expanded = batch * key.shape[2] * heads * head_size * key.element_size()
        yield expanded
        yield expanded


def _efficient_backward(gpu: VirtualGpu, args: Any) -> Iterator[int]:
    grad, query, key, value = args[:4]
    batch, heads, rows, _ = query.shape
    if not grad.transpose(1, 2).is_contiguous():
        yield grad.numel() * grad.element_size()
    if query.dtype is torch.float32:
        product = grad.numel() * 4
        yield product
    yield batch * heads * rows * 4
    nbytes = efficient_workspace(
        batch * heads, rows, key.shape[2], query.shape[3], value.shape[3], query.dtype, gpu.card.compute_capability
    )
    if nbytes:
        yield nbytes


def efficient_workspace(
    batch_heads: int,
    rows: int,
    columns: int,
    head_size: int,
    value_size: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
) -> int:
    """Bytes of the fp32 accumulators of the mem-efficient backward kernel (kernel_backward.h, workspace_size).

    The kernel is the first of its list whose largest head fits; which of the two for heads of 65 to 128 depends on
    the card's shared memory, and the larger block is taken where it fits (8.0, 9.0 and 10.0).
    """
    half = dtype in HALVES
    largest = max(head_size, value_size)
    big_shared = capability in {(8, 0), (9, 0), (10, 0), (10, 3)}
    if half and largest > 64 and largest <= 128 and big_shared:
        tile_i, tile_j, limit = 128, 128, 128
    else:
        tile_i, tile_j = (128, 64) if largest > 64 and not half and capability >= (8, 0) else (64, 64)
        limit = 32 if largest <= 32 else 64 if largest <= 64 else 128 if largest <= 128 else 65536
    keeps_query = capability >= (7, 0) or half
    query_elements = -(-rows // tile_i) * -(-head_size // tile_j) * (tile_i * tile_j * 4 + 16) // 4
    outside = half and limit > tile_i
    splits = _efficient_splits(batch_heads, columns, tile_j, outside)
    key_elements = splits * tile_j * _up(head_size, tile_i) if outside else 0
    value_elements = splits * tile_j * _up(value_size, tile_i) if outside else 0
    total = key_elements + value_elements + (query_elements if keeps_query else 0)
    return batch_heads * _up(total, 4) * 4


def _efficient_splits(batch_heads: int, columns: int, tile: int, outside: bool) -> int:
    splits = -(-columns // tile)
    if batch_heads >= 256 and columns <= 2 * tile:
        splits = 1
    if outside:
        splits = min(splits, 200 // batch_heads)
    return max(splits, 1)


LAYER = {"scaled_dot_product_attention": scaled_dot_product_attention}
SCRATCH = {
    aten._scaled_dot_product_flash_attention.default: _flash_forward,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}
HOST_OUTPUTS = {
    aten._scaled_dot_product_efficient_attention.default: (2, 3),
}
"""Outputs that are in host memory on CUDA: the mem-efficient kernel's seed and offset, outside of graph capture."""
