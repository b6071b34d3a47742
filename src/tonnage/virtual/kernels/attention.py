"""Scaled-dot-product attention: which backend CUDA takes, and what it makes of the inputs.

The choice is ATen/native/transformers/cuda/sdp_utils.cpp, select_sdp_backend; what is done to the inputs first is
transformers/attention.cpp, scaled_dot_product_attention. What the kernels take is in attention_buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from tonnage.virtual.layer import active_gpu, behind, dataless

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu
    from tonnage.virtual.rules import Rules

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


def takes_cudnn(call: Call, rules: Rules) -> bool:
    capability = rules.card.compute_capability
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
        and not (rules.cudnn_drops_by_sixteenths and call.dropout * 16 % 1)
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
        "cudnn": enabled.cudnn_sdp_enabled() and takes_cudnn(call, gpu.rules),
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
    if not dataless(query):
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
    mask = additive(call)
    out: Tensor = aten._scaled_dot_product_cudnn_attention.default(
        call.query, call.key, call.value, mask, call.needs_grad, call.dropout, call.causal, False, scale=scale
    )[0]
    return out


def math(call: Call, scale: float | None) -> Tensor:
    out: Tensor = aten._scaled_dot_product_attention_math.default(
        call.query,
        call.key,
        call.value,
        additive(call),
        call.dropout,
        call.causal,
        None,
        scale=scale,
        enable_gqa=call.gqa,
    )[0]
    return out


_BACKENDS = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn, "math": math}


def additive(call: Call) -> Tensor | None:
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
    mask = additive(call)
    if mask is None:
        return None
    if mask.stride(-1) != 1 or any(mask.stride(d) % MASK_MULTIPLE for d in range(mask.dim() - 1)):
        columns = mask.shape[-1]
        mask = F.pad(mask, (0, MASK_MULTIPLE - columns % MASK_MULTIPLE))[..., :columns]
    batch, heads, rows, _ = call.query.shape
    return mask.expand(batch, heads, rows, call.key.shape[-2])


LAYER = {"scaled_dot_product_attention": scaled_dot_product_attention}
