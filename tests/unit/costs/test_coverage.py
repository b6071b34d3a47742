"""Which of PyTorch's operators have a rule, asked of PyTorch itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils import flop_counter

from tonnage.costs import Cost, attention, convolution, cost, products
from tonnage.costs.lookup import rule_of
from tonnage.trace import Op, TensorSpec

X = TensorSpec((2, 3), "float32")


def overloads() -> Iterator[Any]:
    """Every operator of aten that this PyTorch has."""
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        library, _, rest = name.partition("::")
        base, _, overload = rest.partition(".")
        packet = getattr(torch.ops.aten, base, None) if library == "aten" else None
        if packet is not None and (overload or "default") in packet.overloads():
            yield getattr(packet, overload or "default")


def call_of(operator: Any) -> Op:
    """A call with tensors of 2 x 3 wherever the schema has a tensor, in lists of two."""
    inputs, arguments = [], []
    for argument in operator._schema.arguments:
        kind = str(argument.type)
        if "List[Tensor]" in kind or "List[Optional[Tensor]]" in kind:
            inputs += [X, X]
            arguments.append((None, None))
        elif "Tensor" in kind:
            inputs.append(X)
            arguments.append(None)
        else:
            arguments.append(argument.default_value)
    outputs = [X for returned in operator._schema.returns if "Tensor" in str(returned.type)]
    return Op(str(operator), 0, 1, tuple(inputs), tuple(outputs), tuple(arguments))


POINTWISE = [operator for operator in overloads() if torch.Tag.pointwise in operator.tags]
FOREACH = [o for o in overloads() if o._schema.name.startswith("aten::_foreach_") and "mm" not in o._schema.name]


def test_pytorch_tags_hundreds() -> None:
    assert len(POINTWISE) > 500
    assert {"aten.add_.Tensor", "aten.add.out", "aten.add.Tensor"} <= set(map(str, POINTWISE))


@pytest.mark.parametrize("operator", POINTWISE, ids=str)
def test_what_pytorch_calls_pointwise_is_known_and_has_no_products(operator: Any) -> None:
    found = cost(call_of(operator))
    assert isinstance(found, Cost)
    assert found.macs == 0


@pytest.mark.parametrize("operator", FOREACH, ids=str)
def test_operators_on_lists_are_known(operator: Any) -> None:
    assert isinstance(cost(call_of(operator)), Cost)


COMMON = """
_adaptive_avg_pool2d _adaptive_avg_pool2d_backward _log_softmax _log_softmax_backward_data _softmax
_softmax_backward_data _to_copy _unsafe_view addmm alias all amax amin any arange argmax argmin as_strided avg_pool2d
avg_pool2d_backward baddbmm bernoulli bmm cat clone constant_pad_nd convolution copy cumsum detach embedding
embedding_dense_backward empty empty_like expand fill flip full full_like gather hardswish hardswish_backward
hardtanh_backward index index_add index_put index_select leaky_relu_backward linalg_vector_norm log_sigmoid_forward
logsumexp masked_select max max_pool2d_with_indices max_pool2d_with_indices_backward mean min mm mse_loss
mse_loss_backward mv native_batch_norm native_batch_norm_backward native_dropout native_group_norm
native_group_norm_backward native_layer_norm native_layer_norm_backward new_empty new_zeros nll_loss_backward
nll_loss_forward nonzero normal ones_like permute prod rand randn reflection_pad2d repeat roll scatter scatter_add
select select_backward slice slice_backward softplus softplus_backward sort split split_with_sizes squeeze stack std sum
t topk transpose tril triu unbind unfold uniform unsqueeze upsample_bilinear2d upsample_nearest2d var var_mean view zero
zeros zeros_like
""".split()


@pytest.mark.parametrize("name", COMMON)
def test_common_operators_have_a_rule(name: str) -> None:
    assert rule_of("aten", name) is not None


MULTIPLIES = {packet.__name__ for packet in flop_counter.flop_registry if packet in vars(torch.ops.aten).values()}


def test_no_operator_that_multiplies_is_taken_for_other_work() -> None:
    """Those that PyTorch's counter has a formula for have one here, or are unknown (they are seen as `convolution`)."""
    multiplying = {name for family in (products, convolution, attention) for name in family.RULES}
    known = {name for name in MULTIPLIES if rule_of("aten", name) is not None}
    assert {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"} <= known
    assert known <= multiplying
