"""`torch.autocast("cuda")`, which `meta` tensors do not obey by themselves.

The lists are those of ATen/autocast_mode.h in 2.13, which has rms_norm beyond those of 2.6: operators run in the lower
precision, in fp32, in fp32 through their own dtype argument, or in the widest type of their inputs. An fp32 leaf that
requires grad is cast once and kept until the outermost region ends (autocast_mode.cpp, cached_cast).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tonnage.virtual.layer import active, active_gpu, behind, dataless

Tensor = torch.Tensor

_LOWER = (
    "_convolution _convolution.deprecated conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input "
    "conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm "
    "bmm chain_matmul linalg_multi_dot lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell _thnn_fused_lstm_cell "
    "_thnn_fused_gru_cell _scaled_dot_product_flash_attention"
)
_FULL = (
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar "
    "pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim "
    "nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d "
    "hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss "
    "multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits "
    "dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d "
    "_upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d "
    "_upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa"
)
_FULL_BY_DTYPE = (
    "prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm "
    "linalg_matrix_norm.str_ord sum sum.dim_IntList"
)
_WIDEST = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add"


class Autocast:
    """The autocast state of one device: PyTorch's own switches, and the weights cast so far."""

    def __init__(self, device_type: str) -> None:
        self._type = device_type
        self._cache: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._off = 0

    @property
    def dtype(self) -> torch.dtype | None:
        """The lower precision, or None outside of an enabled region."""
        if self._off or not torch.is_autocast_enabled(self._type):
            return None
        return torch.get_autocast_dtype(self._type)

    def clear(self) -> None:
        """The outermost region has ended."""
        self._cache.clear()

    @contextmanager
    def off(self) -> Iterator[None]:
        """A block inside an operator whose inputs have been cast already."""
        self._off += 1
        try:
            yield
        finally:
            self._off -= 1

    def lower(self, value: Any) -> Any:
        """`value` in the lower precision, if a region is enabled."""
        dtype = self.dtype
        return value if dtype is None else self.cast(value, dtype)

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        """`value`, or the tensors in it, in `dtype`; what is not eligible stays."""
        if isinstance(value, (list, tuple)):
            return type(value)(self.cast(item, dtype) for item in value)
        if not eligible(value) or value.dtype == dtype:
            return value
        if self._caches(value, dtype):
            return self._cached(value, dtype)
        return value.to(dtype)

    def _caches(self, tensor: Tensor, dtype: torch.dtype) -> bool:
        return (
            dtype == torch.get_autocast_dtype(self._type)
            and tensor.dtype is torch.float32
            and tensor.requires_grad
            and tensor.is_leaf
            and not tensor._is_view()
            and torch.is_autocast_cache_enabled()
        )

    def _cached(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        found = self._cache.get(id(weight))
        if found is None or found[0]() is not weight:  # another tensor may have come to the same place
            found = self._cache[id(weight)] = (weakref.ref(weight), weight.to(dtype))
        return found[1]


def eligible(value: Any) -> bool:
    """Whether autocast touches `value`: a floating tensor on the card that is not double."""
    return isinstance(value, Tensor) and dataless(value) and value.is_floating_point() and value.dtype != torch.float64


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _in(op: Any, choose: Callable[[Autocast, Any], torch.dtype]) -> Callable[..., Any]:
    """A kernel that casts its inputs to what `choose` says, under autocast."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        autocast = active().autocast
        with behind():
            if autocast.dtype is not None:
                dtype = choose(autocast, args)
                args = tuple(autocast.cast(a, dtype) for a in args)
                kwargs = {name: autocast.cast(a, dtype) for name, a in kwargs.items()}
            return op(*args, **kwargs)

    return kernel


def _by_dtype(op: Any) -> Callable[..., Any]:
    """A kernel that asks the operator for an fp32 result, without a copy of the input."""
    position = [a.name for a in op._schema.arguments if not a.kwarg_only]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with behind():
            given = kwargs.get("dtype")
            if "dtype" in position and len(args) > position.index("dtype"):
                given = args[position.index("dtype")]
            if active().autocast.dtype is not None and given is None and eligible(args[0]):
                kwargs = {**kwargs, "dtype": torch.float32}
                args = args[: position.index("dtype")] if "dtype" in position else args
            return op(*args, **kwargs)

    return kernel


def _norm(*args: Any, **kwargs: Any) -> Any:
    """`norm(x, p)` has another overload that takes a dtype: that one is asked for fp32 (fp32_append_dtype)."""
    with behind():
        if active().autocast.dtype is None or not eligible(args[0]):
            return torch.ops.aten.norm.Scalar(*args, **kwargs)
        return torch.ops.aten.norm.ScalarOpt_dtype(*args, **kwargs, dtype=torch.float32)


def _rms_norm(*args: Any, **kwargs: Any) -> Any:
    """In fp32 from 2.12 on; before, it went by the operators that it is made of where types differ."""
    gpu = active_gpu()
    if gpu.autocast.dtype is None or gpu.rules.autocasts_rms_norm or not dataless(args[0]):
        return _RMS_NORM_IN_FULL(*args, **kwargs)
    return torch.ops.aten.rms_norm.default._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args, **kwargs)


def _binary_cross_entropy(*args: Any, **kwargs: Any) -> Any:
    """autocast_mode.cpp, binary_cross_entropy_banned."""
    if active().autocast.dtype is not None and dataless(args[0]):
        raise RuntimeError(_UNSAFE)
    with behind():
        return torch.ops.aten.binary_cross_entropy.default(*args, **kwargs)


_UNSAFE = """torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.
Many models use a sigmoid layer right before the binary cross entropy layer.
In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits
or torch.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are
safe to autocast."""


def _lower_dtype(autocast: Autocast, args: Any) -> torch.dtype:
    assert autocast.dtype is not None
    return autocast.dtype


def _full_dtype(autocast: Autocast, args: Any) -> torch.dtype:
    return torch.float32


def _widest_dtype(autocast: Autocast, args: Any) -> torch.dtype:
    given = [item for a in args for item in (a if isinstance(a, (list, tuple)) else [a])]
    found = [a.dtype for a in given if eligible(a)]
    lower = _lower_dtype(autocast, args)
    return torch.float32 if torch.float32 in found else found[0] if found else lower


def _present(names: str) -> Iterator[tuple[str, Any]]:
    """The operators of a list that this PyTorch has."""
    for name in names.split():
        packet, _, overload = name.partition(".")
        if hasattr(torch.ops.aten, packet) and hasattr(getattr(torch.ops.aten, packet), overload or "default"):
            yield name, _operator(name)


def layer(*, lower: str, full: str, full_by_dtype: str = "", widest: str) -> dict[str, Callable[..., Any]]:
    """Kernels for the operators of each list: the lower precision, fp32, fp32 by a dtype argument, the widest type."""
    return {
        **{name: _in(op, _lower_dtype) for name, op in _present(lower)},
        **{name: _in(op, _full_dtype) for name, op in _present(full)},
        **{name: _by_dtype(op) for name, op in _present(full_by_dtype)},
        **{name: _in(op, _widest_dtype) for name, op in _present(widest)},
    }


_RMS_NORM_IN_FULL = _in(torch.ops.aten.rms_norm.default, _full_dtype)

LAYER = {
    **layer(lower=_LOWER, full=_FULL, full_by_dtype=_FULL_BY_DTYPE, widest=_WIDEST),
    "norm.Scalar": _norm,
    "rms_norm": _rms_norm,
    "binary_cross_entropy": _binary_cross_entropy,
}
