"""transformers/modeling_attn_mask_utils.py as of 4.46: masks to add to the scores, and when there is none."""

from __future__ import annotations

import torch
from torch import Tensor


def expanded(mask: Tensor, dtype: torch.dtype, rows: int) -> Tensor:
    """AttentionMaskConverter._expand_mask: (batch, keys) to (batch, 1, rows, keys), large and negative where hidden."""
    batch, columns = mask.shape
    inverted = 1.0 - mask[:, None, None, :].expand(batch, 1, rows, columns).to(dtype)
    return inverted.masked_fill(inverted.to(torch.bool), torch.finfo(dtype).min)


def causal(mask: Tensor, dtype: torch.dtype, rows: int) -> Tensor:
    """AttentionMaskConverter.to_4d: the padding mask and the causal one in one."""
    batch, columns = mask.shape
    over = triangle(batch, rows, columns, dtype, mask.device)
    hidden = expanded(mask, dtype, rows)
    return over.masked_fill(hidden.bool(), torch.finfo(dtype).min)


def summed(mask: Tensor, dtype: torch.dtype, rows: int) -> Tensor:
    """The same as of 4.35, which added the two up."""
    batch, columns = mask.shape
    over = triangle(batch, rows, columns, dtype, mask.device) if rows > 1 else None
    hidden = expanded(mask, dtype, rows)
    return hidden if over is None else hidden + over


def triangle(batch: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """AttentionMaskConverter._make_causal_mask."""
    mask = torch.full((rows, rows), torch.finfo(dtype).min, device=device)
    position = torch.arange(rows, device=device)
    mask.masked_fill_(position < (position + 1).view(rows, 1), 0)
    mask = mask.to(dtype)
    if columns > rows:
        mask = torch.cat([torch.zeros(rows, columns - rows, dtype=dtype, device=device), mask], dim=-1)
    return mask[None, None, :, :].expand(batch, 1, rows, columns)


def for_sdpa(mask: Tensor) -> None:
    """Nothing is hidden, so no mask is passed on (_ignore_causal_mask_sdpa, _prepare_4d_attention_mask_for_sdpa)."""
    assert torch.all(mask == 1)
