"""Normalisations and softmax: so many operations per element.

Batch norm is 5 per element in the textbook convention. Layer norm is 5 in ELECTRA's count (google-research/electra,
flops_computation.py: mean, square, sum, bias, scale), and so is softmax (maximum, subtraction, exponential, sum,
division); fvcore too takes 5 for layer and group norm. RMS and weight norm have no mean to subtract: 4 (square, sum,
product with the root, scale). ELECTRA counts a backward pass as much as its forward, and so do we.
"""

from __future__ import annotations

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements
from tonnage.trace import Op

NORM_FLOPS = 5
SCALE_NORM_FLOPS = 4
SOFTMAX_FLOPS = 5


def _per_element(kind: str, flops: int) -> Rule:
    """The first input is the tensor, or its gradient."""

    def rule(op: Op) -> Cost:
        return Cost(kind, flops=flops * elements(op.inputs[0]))

    return rule


_NORMS = """
_batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional _native_batch_norm_legit
_native_batch_norm_legit_functional _native_batch_norm_legit_no_training batch_norm_backward cudnn_batch_norm
cudnn_batch_norm_backward miopen_batch_norm miopen_batch_norm_backward native_batch_norm native_batch_norm_backward
native_group_norm native_group_norm_backward native_layer_norm native_layer_norm_backward
""".split()
_SCALE_NORMS = """
_fused_rms_norm _fused_rms_norm_backward _weight_norm_interface _weight_norm_interface_backward renorm
""".split()
_SOFTMAXES = """
_log_softmax _log_softmax_backward_data _masked_softmax _masked_softmax_backward _safe_softmax _softmax
_softmax_backward_data
""".split()
RULES: dict[str, Rule] = {
    **dict.fromkeys(_NORMS, _per_element("norm", NORM_FLOPS)),
    **dict.fromkeys(_SCALE_NORMS, _per_element("norm", SCALE_NORM_FLOPS)),
    **dict.fromkeys(_SOFTMAXES, _per_element("softmax", SOFTMAX_FLOPS)),
}
