"""Which of a card's peaks an operator can reach, by what it computes and in which type, with PyTorch's defaults.

What autocast runs in half precision has half inputs, so the type of the inputs says it all.
"""

from __future__ import annotations

from msgspec import Struct

from tonnage.gpus import Card

OTHER = "other arithmetic"
"""All that is no product: element by element, norms, softmax, the additions of a bias."""

_TF32 = (8, 0)
"""Tensor cores take TF32 and bf16 from this compute capability on."""


class Peak(Struct, frozen=True, kw_only=True):
    """The peak for one kind of work in one type.

    `precision` is the name of the card's figure ("fp32", "tf32", "bf16", "fp16"), `flops_per_second` the figure (None:
    not known), dense, as data sheets give it. `ridge` is the FLOP per byte from which the peak and no longer the
    bandwidth limits.
    """

    work: str
    dtype: str
    precision: str
    flops_per_second: float | None
    ridge: float | None
    reason: str


def peak_of(work: str, dtype: str, card: Card) -> Peak:
    """The peak of `card` for `work`: a kind of product ("matrix product", "convolution", ...) or OTHER.

    >>> from tonnage.gpus import find_card
    >>> peak_of("matrix product", "float32", find_card("A100")).precision
    'fp32'
    >>> peak_of("convolution", "float32", find_card("A100")).precision
    'tf32'
    """
    precision, share, reason = _figure(work, dtype, card)
    known = card.peak_flops.get(precision)
    if known is None and precision:
        reason = f"the catalogue has no {precision} peak of {card.name}"
    peak = None if known is None else known * share
    return Peak(
        work=work,
        dtype=dtype,
        precision=precision,
        flops_per_second=peak,
        ridge=None if peak is None or card.bandwidth is None else peak / card.bandwidth,
        reason=reason,
    )


def _figure(work: str, dtype: str, card: Card) -> tuple[str, float, str]:
    """The name of the figure ("" for none), which share of it can be reached, and why."""
    if dtype == "float64":
        return "", 1, "the catalogue has no peaks of float64"
    if work == OTHER:
        return "fp32", 1, "kernels compute in fp32 whatever they store (ATen/OpMathType.h)"
    match dtype:
        case "float16":
            return "fp16", 1, "half inputs, sums in fp32"
        case "bfloat16" if card.compute_capability < _TF32:
            return "", 1, "no bf16 units before compute capability 8.0: it is emulated"
        case "bfloat16":
            return "bf16", 1, "half inputs, sums in fp32"
        case "float32":
            return _single(work, card)
    return "", 1, f"the catalogue has no peaks of {dtype}"


def _single(work: str, card: Card) -> tuple[str, float, str]:
    if card.compute_capability < _TF32:
        return "fp32", 1, "no TF32 before compute capability 8.0"
    if work in ("convolution", "recurrent"):
        return "tf32", 1, "torch.backends.cudnn.allow_tf32 is on by default"
    if work == "attention":
        # mem_eff_attention/gemm_kernel_utils.h, DefaultGemmType for float from sm80 on: OpMultiplyAddFastF32.
        return "tf32", 1 / 3, "the fused kernel makes each product of three in TF32"
    return "fp32", 1, "torch.backends.cuda.matmul.allow_tf32 is off by default"
