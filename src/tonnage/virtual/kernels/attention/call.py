"""A call of scaled-dot-product attention: what it is given, and the composite operator that takes it.

ATen/native/transformers/attention.cpp, scaled_dot_product_attention, and sdp_utils_cpp.h, where CUDA and the CPU agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tonnage.virtual.layer import active, behind, dataless

aten = torch.ops.aten


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

    @property
    def mask_fits(self) -> bool:
        """check_attn_mask_shape: no mask, or one of two or four dimensions, broadcastable, without a gradient."""
        if self.mask is None:
            return True
        whole = (*self.query.shape[:3], self.key.shape[2])
        if self.mask.requires_grad or self.mask.dim() not in (2, 4):
            return False
        return all(size in (1, full) for size, full in zip(self.mask.shape, whole[-self.mask.dim() :], strict=True))


Backend = Callable[[Call, float | None], Tensor]
"""Runs a call at a scale, by default that of its head size."""


def composite(choose: Callable[[Call], Backend]) -> Callable[..., Tensor]:
    """The composite operator, as it is run by the backend that `choose` takes; autocast casts its inputs."""

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
        autocast = active().autocast
        query, key, value, attn_mask = (autocast.lower(t) for t in (query, key, value, attn_mask))
        if not dataless(query):
            with behind():
                plain: Tensor = aten.scaled_dot_product_attention.default(
                    query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
                )
            return plain
        call = Call(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
        backend = choose(call)
        with autocast.off():
            return backend(call, scale)

    return scaled_dot_product_attention


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


def additive(call: Call) -> Tensor | None:
    """The mask as numbers to add (attention.cpp, convert_boolean_attn_mask): a bool one is written out."""
    mask = call.mask
    if mask is None or mask.dtype is not torch.bool:
        return mask
    hidden = torch.scalar_tensor(float("-inf"), dtype=call.query.dtype, device=mask.device)
    return torch.where(mask, 0.0, hidden)
