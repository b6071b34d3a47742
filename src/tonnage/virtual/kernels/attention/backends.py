"""Which backend of attention CUDA takes, and what it makes of the inputs.

The choice is ATen/native/transformers/cuda/sdp_utils.cpp, select_sdp_backend; what is done to the inputs first is
transformers/attention.cpp, scaled_dot_product_attention. What the kernels take is in buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from tonnage.virtual.kernels.attention.call import Backend, Call, additive, composite, math
from tonnage.virtual.layer import active_gpu

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu
    from tonnage.virtual.rules import Rules

aten = torch.ops.aten
Tensor = torch.Tensor

HALVES = (torch.float16, torch.bfloat16)
FLASH_HEAD_MULTIPLE = 8
MASK_MULTIPLE = 8
"""The mem-efficient kernel wants mask rows of this many elements (attention.cpp, preprocess_mask)."""


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
        and call.mask_fits
        and not deterministic
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


_BACKENDS: dict[str, Backend] = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn, "math": math}


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


LAYER = {"scaled_dot_product_attention": composite(lambda call: _BACKENDS[choose(active_gpu(), call)])}
