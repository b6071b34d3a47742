"""Scaled-dot-product attention: which backend CUDA takes, what it keeps and what it scratches.

The choice is ATen/native/transformers/cuda/sdp_utils.cpp, select_sdp_backend; what is done to the inputs first is
transformers/attention.cpp, scaled_dot_product_attention; the scratch of the kernels is flash_attn/flash_api.cpp
(mha_fwd, mha_bwd), cuda/attention_backward.cu and mem_eff_attention/kernel_backward.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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
        """Four-dimensional, of one type and batch size, with something in it."""
        tensors = (self.query, self.key, self.value)
        return (
            all(t.dim() == 4 and t.dtype == self.query.dtype and t.shape[0] == len(self.query) for t in tensors)
            and self.query.shape[-2] > 0
            and self.key.shape[-2] > 0
        )

    def last_dims_contiguous(self, *, head_of_one: bool) -> bool:
        """check_last_dim_stride_equals_1_dense; some backends do not mind the stride of a head of one element."""
        strides_fit = all(t.stride(-1) == 1 for t in (self.query, self.key, self.value))
        mask_fits = self.mask is None or (self.mask.dim() > 0 and self.mask.stride(-1) == 1)
        return (strides_fit or (head_of_one and self.head_size == 1)) and mask_fits

    def heads_fit(self, *, values_alike: bool = True) -> bool:
        """Equal numbers of heads or, if asked for, queries in whole groups (check_grouped_query_attention)."""
        query, key, value = (t.shape[1] for t in (self.query, self.key, self.value))
        if not self.gqa:
            return query == key == value
        if 0 in (key, value) or (values_alike and key != value):
            return False
        return query % key == 0 and (values_alike or query % value == 0)


def takes_flash(call: Call, capability: tuple[int, int]) -> bool:
    query, key, value = call.query, call.key, call.value
    return (
        (8, 0) <= capability <= (12, 1)
        and query.dtype in HALVES
        and call.mask is None
        and query.shape[-1] == key.shape[-1] == value.shape[-1] <= 256
        and call.heads_fit()
        and call.last_dims_contiguous(head_of_one=True)
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
    heads = {t.shape[1] for t in (call.query, call.key, call.value)}
    return (
        (5, 0) <= capability <= (12, 1)
        and call.query.dtype in dtypes
        and len(heads) == 1
        and call.head_size == call.key.shape[-1]
        and call.head_size > 0
        and call.value.shape[-1] > 0
        and call.head_size % align == 0
        and call.value.shape[-1] % align == 0
        and call.last_dims_contiguous(head_of_one=False)
    )


def _alignment(dtype: torch.dtype, capability: tuple[int, int]) -> int:
    """minimum_gemm_alignment of sdp_utils.cpp."""
    if dtype in HALVES:
        return 8 if capability >= (7, 0) else 1
    return 4 if capability >= (8, 0) else 1


def takes_cudnn(call: Call, capability: tuple[int, int]) -> bool:
    limit = 256 if capability == (9, 0) else 128
    query, key, value = call.query, call.key, call.value
    deterministic = (
        torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    )
    return (
        (8, 0) <= capability <= (12, 1)
        and query.dtype in HALVES
        and all(t.shape[-1] <= limit and t.shape[-1] % 8 == 0 for t in (query, key, value))
        and call.heads_fit(values_alike=False)
        and call.last_dims_contiguous(head_of_one=True)
        and key.shape[-2] > 1
        and not (query.shape[-2] == 1 and call.dropout > 0)
        and (call.mask is None or _cudnn_takes_mask(call, call.mask))
        and not deterministic
    )


def _cudnn_takes_mask(call: Call, mask: Tensor) -> bool:
    """check_attn_mask_shape of sdp_utils_cpp.h: two- or four-dimensional, broadcastable, without a gradient."""
    whole = (*call.query.shape[:3], call.key.shape[2])
    if mask.requires_grad or mask.dim() not in (2, 4):
        return False
    return all(size in (1, full) for size, full in zip(mask.shape, whole[-mask.dim() :], strict=True))


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
    backend = next((name for name in _order(gpu) if usable.get(name)), None)
    if backend is None:
        raise RuntimeError("No available kernel. Aborting execution.")
    return backend


def _order(gpu: VirtualGpu) -> list[str]:
    """priority_order: the user's if `sdpa_kernel(..., set_priority=True)` gave one, else the default of the card."""
    order = [_NAMES.get(number, "") for number in torch._C._get_sdp_priority_order()]
    if order[: len(_DEFAULT)] == _DEFAULT and gpu.rules.prefers_cudnn_attention:
        return ["cudnn", "flash", "efficient", "math"]
    return order


_NAMES = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}
"""at::SDPBackend."""
_DEFAULT = ["flash", "efficient", "math", "cudnn"]


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
    hidden = torch.scalar_tensor(float("-inf"), dtype=call.query.dtype, device=mask.device)
    return torch.where(mask, 0.0, hidden)


def _bias(call: Call) -> Tensor | None:
    """The mask as the mem-efficient kernel takes it (preprocess_mask): rows padded unless they are aligned, expanded.

    pad_bias adds a whole multiple where the columns are one already and another stride is not.
    """
    mask = _additive(call)
    if mask is None:
        return None
    if mask.stride(-1) != 1 or any(mask.stride(d) % MASK_MULTIPLE for d in range(mask.dim() - 1)):
        columns = mask.shape[-1]
        mask = F.pad(mask, (0, MASK_MULTIPLE - columns % MASK_MULTIPLE))[..., :columns]
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


def _flash_forward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    query, key = args[0], args[1]
    batch, heads, rows, head_size = query.shape
    dropout = args[3] if len(args) > 3 else 0.0
    splits = 1 if dropout else flash_splits(batch * heads, rows, key.shape[-2], head_size, gpu.card.sm_count)
    if splits > 1:
        rounded = _up(head_size, 32 if head_size <= 128 else 64)
        yield splits * batch * heads * rows * 4
        yield splits * batch * heads * rows * rounded * 4


def _copy_unless_dense(tensor: Tensor) -> Iterator[int]:
    """`.contiguous()` of a tensor whose heads were moved behind its rows."""
    if not tensor.transpose(1, 2).is_contiguous():
        yield tensor.numel() * tensor.element_size()


def _flash_backward_copies(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """_flash_attention_backward makes the incoming gradient and the output dense before it makes dq, dk and dv."""
    yield from _copy_unless_dense(args[0])
    yield from _copy_unless_dense(args[4])


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
    yield from _copy_unless_dense(args[0])


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


LAYER = {"scaled_dot_product_attention": scaled_dot_product_attention}
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
}
HOST_OUTPUTS = {
    aten._scaled_dot_product_efficient_attention.default: (2, 3),
}
"""Outputs that are in host memory on CUDA: the mem-efficient kernel's seed and offset, outside of graph capture."""
