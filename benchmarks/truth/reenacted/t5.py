"""What transformers/models/t5/modeling_t5.py of 4.51 did otherwise than that of 5: its masks and its attention.

There was always a mask, also where nothing is hidden. It was added to the position bias once, in the first layer of a
stack, and the sum went to the scores of all layers in place. So the sum has the scores' size and its gradient too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from tonnage.workload.libraries import load


def inverted(*, inputs_embeds: Tensor, attention_mask: Tensor, **_: Any) -> Tensor:
    """T5Stack.forward of an encoder, and invert_attention_mask (modeling_utils.py): (batch, 1, 1, keys)."""
    mask = attention_mask[:, None, None, :].to(dtype=inputs_embeds.dtype)
    return (1.0 - mask) * torch.finfo(inputs_embeds.dtype).min


def causal(*, inputs_embeds: Tensor, attention_mask: Tensor | None, **_: Any) -> Tensor:
    """_prepare_4d_causal_attention_mask_with_cache_position without a past: (batch, 1, queries, keys)."""
    batch, length, _ = inputs_embeds.shape
    dtype, device = inputs_embeds.dtype, inputs_embeds.device
    position = torch.arange(length, device=device)
    if attention_mask is None:
        attention_mask = torch.ones(batch, length, device=device)
    mask = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device)
    mask = torch.triu(mask, diagonal=1)
    mask *= torch.arange(length, device=device) > position.reshape(-1, 1)
    mask = mask[None, None, :, :].expand(batch, 1, -1, -1).clone()
    padding = mask + attention_mask[:, None, None, :]
    padding = padding == 0
    mask[:, :, :, :length] = mask.masked_fill(padding, torch.finfo(dtype).min)
    return mask


def attention(
    self: Any,
    hidden_states: Tensor,
    mask: Tensor,
    key_value_states: Tensor | None = None,
    position_bias: Tensor | None = None,
    past_key_values: Any = None,
    **_: Any,
) -> tuple[Tensor, Tensor, None]:
    """T5Attention.forward in training: the scores live until the output has been projected."""
    batch, length, _ = hidden_states.shape

    def heads(tensor: Tensor) -> Tensor:
        return tensor.view(batch, -1, self.n_heads, self.key_value_proj_dim).transpose(1, 2)

    queries = heads(self.q(hidden_states))
    source = hidden_states if key_value_states is None else key_value_states
    keys, values = self.k(source), self.v(source)
    keys, values = heads(keys), heads(values)
    if past_key_values is not None:
        own = key_value_states is None
        cache = past_key_values.self_attention_cache if own else past_key_values.cross_attention_cache
        keys, values = cache.update(keys, values, self.layer_idx)
    scores = torch.matmul(queries, keys.transpose(3, 2))
    if position_bias is None:
        if self.has_relative_attention_bias:
            position_bias = self.compute_bias(length, keys.shape[-2], device=scores.device)
        else:
            position_bias = torch.zeros((1, self.n_heads, length, keys.shape[-2]), device=scores.device)
        position_bias = position_bias + mask
    scores += position_bias
    weights = F.softmax(scores.float(), dim=-1).type_as(scores)
    weights = F.dropout(weights, p=self.dropout, training=self.training)
    output = torch.matmul(weights, values)
    output = output.transpose(1, 2).contiguous()
    output = output.view(batch, -1, self.inner_dim)
    output = self.o(output)
    return output, position_bias, None


def cache_update(self: Any, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """DynamicCache.update (cache_utils.py): the first keys and values are kept as they are, without a copy."""
    first = not self.is_initialized
    if first:
        self.lazy_initialization(keys, values)
    self.keys = keys if first else torch.cat([self.keys, keys], dim=-2)
    self.values = values if first else torch.cat([self.values, values], dim=-2)
    return self.keys, self.values


@contextmanager
def of_4_51() -> Iterator[None]:
    """Inside, transformers' T5 trains as that of 4.51 did, and a dynamic cache copies as little."""
    transformers = load("transformers")
    module = transformers.models.t5.modeling_t5
    with (
        patch.object(module, "create_bidirectional_mask", inverted),
        patch.object(module, "create_causal_mask", causal),
        patch.object(module.T5Attention, "forward", attention),
        patch.object(transformers.cache_utils.DynamicLayer, "update", cache_update),
    ):
        yield
