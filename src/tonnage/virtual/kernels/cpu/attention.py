"""Attention on the CPU: one flash kernel, or the math path (ATen/native/transformers/attention.cpp)."""

from __future__ import annotations

import torch
from torch import Tensor

from tonnage.virtual.kernels.attention.call import Backend, Call, additive, composite, math

aten = torch.ops.aten
_FLASH_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def choose(call: Call) -> Backend:
    """select_sdp_backend_cpp."""
    return _flash if takes_flash(call) else math


def takes_flash(call: Call) -> bool:
    """ATen/native/transformers/sdp_utils_cpp.cpp, use_flash_attention_cpp."""
    query, key, value = call.query, call.key, call.value
    return (
        torch.backends.cuda.flash_sdp_enabled()
        and call.dropout == 0
        and call.plain
        and call.heads_fit()
        and call.mask_fits
        and query.shape[-1] == key.shape[-1] == value.shape[-1]
        and call.last_dims_contiguous(head_of_one=False)
        and query.dtype in _FLASH_DTYPES
    )


def _flash(call: Call, scale: float | None) -> Tensor:
    out: Tensor = aten._scaled_dot_product_flash_attention_for_cpu.default(
        call.query, call.key, call.value, call.dropout, call.causal, attn_mask=additive(call), scale=scale
    )[0]
    return out


LAYER = {"scaled_dot_product_attention": composite(choose)}
