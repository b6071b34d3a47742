"""The fused inference path of `nn.TransformerEncoderLayer` and `nn.MultiheadAttention`, piece by piece.

Without gradients these modules call one operator for a whole layer (native/transformers/transformer.cpp,
transformer_encoder_layer_forward) or one attention (cuda/attention.cu, native_multi_head_attention_cuda). On CUDA each
is a chain of ordinary operators, some in place; the same chain is run here. Nested tensors, which
`nn.TransformerEncoder` makes of a left-aligned padding mask, are not modelled: no mask is taken to be left-aligned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tonnage.virtual.kernels.attention.backends import choose
from tonnage.virtual.kernels.attention.call import Call
from tonnage.virtual.layer import active_gpu

aten = torch.ops.aten


def encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """transformer_encoder_layer_forward."""

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.layer_norm(x, (embed_dim,), weight, bias, eps)

    x = norm(src, norm_weight_1, norm_bias_1) if norm_first else src
    weights = (qkv_weight, qkv_bias, proj_weight, proj_bias)
    x = multi_head_attention(x, x, x, embed_dim, num_heads, *weights, mask, False, True, mask_type)[0]
    x.add_(src)
    if not norm_first:
        x = norm(x, norm_weight_1, norm_bias_1)
    before = x
    if norm_first:
        x = norm(x, norm_weight_2, norm_bias_2)
    batch, length, _ = x.shape
    x = aten._addmm_activation.default(ffn_bias_1, x.reshape(batch * length, -1), ffn_weight_1.t(), use_gelu=use_gelu)
    x = torch.addmm(ffn_bias_2, x, ffn_weight_2.t()).view(batch, length, -1)
    x.add_(before)
    return x if norm_first else norm(x, norm_weight_2, norm_bias_2)


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """native_multi_head_attention_cuda."""
    batch, length, _ = query.shape
    if query is key and key is value and mask is None and not need_weights and _takes_fused(query, num_head):
        projected = torch.nn.functional.linear(query, qkv_weight, qkv_bias).chunk(3, -1)
        q, k, v = (t.view(batch, -1, num_head, embed_dim // num_head).transpose(1, 2) for t in projected)
        out = aten.scaled_dot_product_attention.default(q, k, v)
        return _projected(out.transpose(1, 2).reshape(batch, -1, embed_dim), proj_weight, proj_bias), None
    qkv = _qkv(query, key, value, embed_dim, qkv_weight)
    parts = torch.empty((3, batch, num_head, length, embed_dim // num_head), dtype=qkv.dtype, device=qkv.device)
    del qkv
    q, k, v = (t.reshape(batch * num_head, length, -1) for t in parts.unbind(0))
    scores = torch.bmm(q, k.transpose(1, 2)).view(batch, num_head, length, length)
    if mask is None:
        aten._softmax.out(scores, -1, False, out=scores)
    else:
        scores = torch.empty_like(scores)
    aten.bmm.out(scores.view(batch * num_head, length, length), v, out=q)
    if not need_weights:
        del scores
    moved = q.view(batch, num_head, length, -1).permute(0, 2, 1, 3).contiguous().view(batch, length, embed_dim)
    out = _projected(moved, proj_weight, proj_bias)
    if not need_weights:
        return out, None
    return out, scores.sum(1).div_(num_head) if average_attn_weights else scores


def _takes_fused(query: Tensor, num_head: int) -> bool:
    """Whether flash or mem-efficient attention would take heads of this input; the projection has not happened yet."""
    size = query.shape[-1] // num_head
    if size % 8:
        return False
    heads = query.view(query.shape[0], -1, num_head, size).transpose(1, 2)
    return choose(active_gpu(), Call(heads, heads, heads, None, 0.0, False, False)) in ("flash", "efficient")


def _qkv(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, weight: Tensor) -> Tensor:
    """qkv_projection of attention.cpp: one product where it can be one."""
    if query is key and key is value:
        return torch.matmul(query, weight.t())
    if key is value:
        first, rest = weight.split((embed_dim, 2 * embed_dim))
        return torch.cat((torch.matmul(query, first.t()), torch.matmul(key, rest.t())), 2)
    pieces = zip((query, key, value), weight.chunk(3), strict=True)
    return torch.cat([torch.matmul(t, w.t()) for t, w in pieces], 2)


def _projected(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    batch, length, width = x.shape
    return torch.addmm(bias, x.view(batch * length, width), weight.t()).view(batch, length, -1)


def left_aligned(tensor: Tensor, mask: Tensor) -> bool:
    """Whether a padding mask would make nested tensors: never here."""
    active_gpu().not_counted(
        "nested tensors", "padding would be left out by nn.TransformerEncoder's fast path; weighed with padding"
    )
    return False


LAYER = {
    "_transformer_encoder_layer_fwd": encoder_layer,
    "_native_multi_head_attention": multi_head_attention,
    "_nested_tensor_from_mask_left_aligned": left_aligned,
}
