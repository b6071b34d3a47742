"""Sums, maxima, losses: one operation per element that is read."""

from __future__ import annotations

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements, is_floating, total
from tonnage.trace import Op

KIND = "reduction"


def one_per_input(op: Op) -> Cost:
    return Cost(KIND, flops=elements(op.inputs[0]) if is_floating(op) else 0)


def on_lists(op: Op) -> Cost:
    """`_foreach_norm` and the like."""
    return Cost(KIND, flops=total(op.inputs))


def _added(op: Op) -> Cost:
    """What is scattered is added, or compared, once: the last input."""
    return Cost(KIND, flops=elements(op.inputs[-1]) if is_floating(op) else 0)


def _pairs(op: Op) -> Cost:
    """Distances: of each pair, subtract, raise and sum every coordinate."""
    return Cost(KIND, flops=3 * elements(op.outputs[0]) * op.inputs[0].shape[-1])


def _extremum(op: Op) -> Cost:
    if len(op.inputs) > 1:
        return Cost("elementwise", flops=elements(op.outputs[0]) if is_floating(op) else 0)
    return one_per_input(op)


_BY_INPUT = """
_aminmax _cummax_helper _cummin_helper _embedding_bag _embedding_bag_backward _embedding_bag_dense_backward
_embedding_bag_forward_only _is_all_true _is_any_true _logcumsumexp _segment_reduce_backward all allclose amax amin
aminmax any argmax argmin binary_cross_entropy binary_cross_entropy_backward binary_cross_entropy_with_logits col2im
count_nonzero cummax cummin cumprod cumsum dist embedding_dense_backward huber_loss huber_loss_backward
linalg_vector_norm logcumsumexp logsumexp mean mse_loss mse_loss_backward multi_margin_loss multi_margin_loss_backward
multilabel_margin_loss_backward multilabel_margin_loss_forward nansum native_norm nll_loss2d_backward
nll_loss2d_forward nll_loss_backward nll_loss_forward norm prod segment_reduce smooth_l1_loss smooth_l1_loss_backward
soft_margin_loss soft_margin_loss_backward std std_mean sum trace unfold_backward var var_mean
""".split()
_SCATTERED = "index_add index_reduce scatter_add scatter_reduce _unsafe_masked_index_put_accumulate".split()
NAMES = frozenset((*_BY_INPUT, *_SCATTERED, "powsum", "max"))
RULES: dict[str, Rule] = {
    **dict.fromkeys(_BY_INPUT, one_per_input),
    **dict.fromkeys(_SCATTERED, _added),
    **dict.fromkeys(("max", "min"), _extremum),
    **dict.fromkeys(("_cdist_forward", "_pdist_forward"), _pairs),
}
