"""The CPU's habits, where they are neither CUDA's nor those of `meta`.

What its kernels take inside themselves is not among them: oneDNN's reordered weights, a product's contiguous operands,
attention's buffers. Dropout is as on `meta`, with a mask of the input's own type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tonnage.virtual.habits import Habits
from tonnage.virtual.kernels import activation, attention, autocast, cpu_lstm, linear, lists
from tonnage.virtual.kernels.attention import Call
from tonnage.virtual.layer import active, behind, dataless

aten = torch.ops.aten

_HALVES = (torch.bfloat16, torch.float16)
_FLASH_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# ATen/autocast_mode.cpp, TORCH_LIBRARY_IMPL(aten, AutocastCPU, m); attention casts for itself, below.
_LOWER = (
    "conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding bmm mm linalg_vecdot baddbmm addmm "
    "_addmm_activation addbmm linear _convolution.deprecated matmul conv_tbc mkldnn_rnn_layer conv_transpose1d "
    "conv_transpose2d.input conv_transpose3d.input prelu _native_multi_head_attention"
)
_FULL = (
    "avg_pool3d binary_cross_entropy grid_sampler polar prod prod.dim_int quantile quantile.scalar nanquantile "
    "nanquantile.scalar stft stft.center cdist grid_sampler_2d _grid_sampler_2d_cpu_fallback grid_sampler_3d trace "
    "view_as_complex cholesky cholesky_inverse cholesky_solve inverse lu_solve orgqr ormqr pinverse max_pool3d "
    "max_unpool2d max_unpool3d adaptive_avg_pool3d reflection_pad1d reflection_pad2d replication_pad1d "
    "replication_pad2d replication_pad3d mse_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss "
    "poisson_nll_loss smooth_l1_loss cross_entropy_loss l1_loss huber_loss margin_ranking_loss soft_margin_loss "
    "triplet_margin_loss multi_margin_loss ctc_loss.IntList ctc_loss.Tensor kl_div multilabel_margin_loss "
    "binary_cross_entropy_with_logits fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft "
    "fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft linalg_cond linalg_cond.p_str linalg_matrix_rank "
    "linalg_matrix_rank.tol_tensor linalg_matrix_rank.atol_rtol_tensor linalg_matrix_rank.atol_rtol_float "
    "linalg_solve linalg_cholesky linalg_svdvals linalg_eigvals linalg_eigvalsh linalg_inv "
    "linalg_householder_product linalg_tensorinv linalg_tensorsolve fake_quantize_per_tensor_affine geqrf "
    "_lu_with_info qr svd triangular_solve fractional_max_pool2d fractional_max_pool3d adaptive_max_pool3d "
    "multilabel_margin_loss_forward linalg_qr linalg_cholesky_ex linalg_svd linalg_eig linalg_eigh linalg_lstsq "
    "linalg_inv_ex"
)
_WIDEST = "stack cat index_copy"


def takes_flash(call: Call) -> bool:
    """ATen/native/transformers/sdp_utils_cpp.cpp, use_flash_attention_cpp."""
    query, key, value, mask = call.query, call.key, call.value, call.mask
    return (
        torch.backends.cuda.flash_sdp_enabled()
        and call.dropout == 0
        and call.plain
        and call.heads_fit()
        and (mask is None or _takes_mask(call, mask))
        and query.shape[-1] == key.shape[-1] == value.shape[-1]
        and call.last_dims_contiguous(head_of_one=False)
        and query.dtype in _FLASH_DTYPES
    )


def _takes_mask(call: Call, mask: Tensor) -> bool:
    """check_attn_mask_shape of sdp_utils_cpp.h."""
    whole = (*call.query.shape[:3], call.key.shape[2])
    if mask.requires_grad or mask.dim() not in (2, 4):
        return False
    return all(size in (1, full) for size, full in zip(mask.shape, whole[-mask.dim() :], strict=True))


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
    """The composite operator as the CPU runs it: one flash kernel, or the math path (select_sdp_backend_cpp)."""
    cast = active().autocast.lower
    query, key, value, attn_mask = cast(query), cast(key), cast(value), cast(attn_mask)
    if not dataless(query):
        with behind():
            plain: Tensor = aten.scaled_dot_product_attention.default(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        return plain
    call = Call(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    with active().autocast.off():
        if not takes_flash(call):
            return attention.math(call, scale)
        out: Tensor = aten._scaled_dot_product_flash_attention_for_cpu.default(
            query, key, value, dropout_p, is_causal, attn_mask=attention.additive(call), scale=scale
        )[0]
        return out


def _kept(tensor: Tensor, weight: Tensor | None, bias: Tensor | None) -> torch.dtype:
    """The type of a norm's statistics: ATen/native/cpu/mixed_data_type.h, param_scalar_type.

    That of the input, but fp32 for a half whose weights are fp32.
    """
    weights = weight if weight is not None else bias
    mixed = tensor.dtype in _HALVES and weights is not None and weights.dtype is torch.float32
    return torch.float32 if mixed else tensor.dtype


def _batch_norm(tensor: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: Any) -> Any:
    """ATen/native/Normalization.cpp, batch_norm_cpu: nothing is kept of the statistics that were running."""
    members = [member for member in (weight, bias, mean, variance) if member is not None]
    kept = _kept(tensor, members[0] if members else None, None)
    channels = tensor.shape[1] if training else 0
    return torch.empty_like(tensor), *(tensor.new_empty(channels, dtype=kept) for _ in range(2))


def _layer_norm(tensor: Tensor, normalized: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    """ATen/native/layer_norm.cpp, layer_norm_cpu."""
    shape = [*tensor.shape[: -len(normalized)], *[1] * len(normalized)]
    statistics = (tensor.new_empty(shape, dtype=_kept(tensor, weight, bias)) for _ in range(2))
    return torch.empty_like(tensor, memory_format=torch.contiguous_format), *statistics


def _group_norm(
    tensor: Tensor, weight: Any, bias: Any, images: int, channels: int, pixels: int, groups: int, eps: float
) -> Any:
    """ATen/native/group_norm.cpp, native_group_norm."""
    statistics = (tensor.new_empty(images, groups, dtype=_kept(tensor, weight, bias)) for _ in range(2))
    return torch.empty_like(tensor), *statistics


def _recurrent(name: str) -> Callable[..., Any]:
    """The layer with the input of each step multiplied by itself, and a line that says so.

    ATen/native/RNN.cpp, FullLayer: on a CPU the inputs of all steps are multiplied at once.
    """
    op = getattr(aten, name).input

    def kernel(*args: Any) -> Any:
        if dataless(args[0]):
            reason = "the products of its inputs are made step by step, where the CPU makes those of all steps at once"
            active().not_counted(f"the CPU's {name.upper().replace('_', ' ')}", reason)
        with behind():
            return op(*args)

    return kernel


CPU = Habits(
    torch.device("cpu"),
    "AutocastHPU",
    layer={
        **autocast.layer(lower=_LOWER, full=_FULL, widest=_WIDEST),
        **activation.LAYER,
        **linear.LAYER,
        **lists.LAYER,
        "scaled_dot_product_attention": scaled_dot_product_attention,
        "lstm.input": cpu_lstm.lstm,
        **{f"{name}.input": _recurrent(name) for name in ("gru", "rnn_tanh", "rnn_relu")},
    },
    shapes={
        aten.native_batch_norm.default: _batch_norm,
        aten.native_layer_norm.default: _layer_norm,
        aten.native_group_norm.default: _group_norm,
        aten.mkldnn_rnn_layer.default: cpu_lstm.one_layer,
        aten.mkldnn_rnn_layer_backward.default: cpu_lstm.one_layer_backward,
    },
)
