"""Pointwise operators: one operation per element of the result, whatever the function.

An exponential counts as much as an addition (as in google-research/electra, flops_computation.py), and a fused operator
such as GELU or `addcmul` as one. Integers and booleans are not floating point: counting positions costs nothing.
"""

from __future__ import annotations

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements, first_list, is_floating, total
from tonnage.trace import Op

KIND = "elementwise"


def one_per_element(op: Op) -> Cost:
    result = op.outputs or op.inputs
    return Cost(KIND, flops=elements(result[0]) if result and is_floating(op) else 0)


def on_lists(op: Op) -> Cost:
    """`_foreach_*`: of every tensor of the first list. In place such an operator returns nothing."""
    return Cost(KIND, flops=total(first_list(op)))


def _optimizer(flops: int) -> Rule:
    def rule(op: Op) -> Cost:
        return Cost(KIND, flops=flops * total(first_list(op)))

    return rule


FUSED_OPTIMIZERS = {"_fused_adam": 7, "_fused_adamw": 8, "_fused_sgd": 3, "_fused_adagrad": 4}
"""Pointwise operators per parameter that torch.optim runs where it is not fused: torch/optim/adam.py,
_multi_tensor_adam (lerp, mul, addcmul, sqrt, div, add, addcdiv; AdamW one mul more), sgd.py and adagrad.py likewise."""

_TAGGED = """
__and__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __lshift__ __or__ __rshift__ __xor__ _conj_physical abs acos
acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min clip conj_physical copysign cos cosh deg2rad
digamma div elu eq equal erf erfc erfinv exp exp2 expm1 float_power floor fmax fmin fmod frac frexp gcd ge gelu
gelu_backward gt hardshrink hardsigmoid hardtanh heaviside hypot i0 igamma igammac isfinite isinf isnan isneginf
isposinf lcm ldexp le leaky_relu lerp lgamma log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not
logical_or logical_xor logit logit_backward lt masked_fill maximum minimum mish mul mvlgamma nan_to_num
native_dropout_backward ne neg nextafter polygamma positive pow rad2deg reciprocal relu relu6 remainder round rrelu
rsqrt rsub selu sgn sigmoid sigmoid_backward sign signbit silu silu_backward sin sinc sinh softplus softshrink
special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1 special_chebyshev_polynomial_t
special_chebyshev_polynomial_u special_chebyshev_polynomial_v special_chebyshev_polynomial_w special_entr
special_erfcx special_hermite_polynomial_h special_hermite_polynomial_he special_i0e special_i1 special_i1e
special_laguerre_polynomial_l special_legendre_polynomial_p special_log_ndtr special_modified_bessel_i0
special_modified_bessel_i1 special_modified_bessel_k0 special_modified_bessel_k1 special_ndtri
special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1 special_shifted_chebyshev_polynomial_t
special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w
special_spherical_bessel_j0 special_xlog1py special_zeta sqrt square sub tan tanh tanh_backward threshold
threshold_backward true_divide trunc where xlogy
""".split()
"""What PyTorch tags pointwise (`torch.Tag.pointwise`), less what moves data only."""

_UNTAGGED = """
_add_relu _amp_foreach_non_finite_check_and_unscale _amp_update_scale _masked_scale _prelu_kernel
_prelu_kernel_backward alpha_dropout complex elu_backward fake_quantize_per_channel_affine_cachemask
fake_quantize_per_tensor_affine_cachemask floor_divide glu glu_backward glu_backward_jvp glu_jvp hardshrink_backward
hardsigmoid_backward hardswish hardswish_backward hardtanh_backward infinitely_differentiable_gelu_backward isin
leaky_relu_backward linalg_cross log_sigmoid_backward log_sigmoid_forward mish_backward native_dropout polar prelu
rrelu_with_noise rrelu_with_noise_backward rrelu_with_noise_functional softplus_backward softshrink_backward
""".split()

NAMES = frozenset((*_TAGGED, *_UNTAGGED))
RULES: dict[str, Rule] = {
    **dict.fromkeys(NAMES, one_per_element),
    **{name: _optimizer(flops) for name, flops in FUSED_OPTIMIZERS.items()},
    "_amp_foreach_non_finite_check_and_unscale": on_lists,
}
