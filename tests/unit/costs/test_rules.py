"""What one operator costs: by hand, and by PyTorch's own formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import flop_counter

from tonnage.costs import Cost, Padding, Unknown, cost
from tonnage.trace import Op, TensorSpec

aten = torch.ops.aten


def spec(*shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(shape, dtype)


def op(name: str, inputs: list[TensorSpec], outputs: list[TensorSpec], *arguments: object) -> Op:
    return Op(name, 0, 1, tuple(inputs), tuple(outputs), arguments)


# Products -------------------------------------------------------------------------------------------------------------

LEFT, RIGHT, RESULT = spec(4, 8), spec(8, 16), spec(4, 16)
BATCHED = spec(3, 4, 8), spec(3, 8, 16), spec(3, 4, 16)
ROWS, EXPERTS = spec(12, 8), spec(3, 8, 16)
OFFSETS = spec(3, dtype="int32")
PRODUCTS = {
    "aten.mm.default": ([LEFT, RIGHT], RESULT, 512, 64, 0),
    "aten.mm.out": ([LEFT, RIGHT, RESULT], RESULT, 512, 64, 0),
    "aten.addmm.default": ([spec(16), LEFT, RIGHT], RESULT, 512, 64, 64),
    "aten.addmm_.default": ([RESULT, LEFT, RIGHT], RESULT, 512, 64, 64),
    "aten.bmm.default": ([*BATCHED[:2]], BATCHED[2], 1536, 192, 0),
    "aten.baddbmm_.default": ([BATCHED[2], *BATCHED[:2]], BATCHED[2], 1536, 192, 192),
    "aten.addbmm.default": ([RESULT, *BATCHED[:2]], RESULT, 1536, 64, 64),
    "aten.mv.default": ([LEFT, spec(8)], spec(4), 32, 4, 0),
    "aten.addmv.default": ([spec(4), LEFT, spec(8)], spec(4), 32, 4, 4),
    "aten.dot.default": ([spec(8), spec(8)], spec(), 8, 1, 0),
    "aten.addr.default": ([RESULT, spec(4), spec(16)], RESULT, 64, 64, 64),
    "aten._int_mm.default": ([LEFT, RIGHT], RESULT, 512, 64, 0),
    "aten._scaled_mm.default": ([LEFT, RIGHT, spec(), spec()], RESULT, 512, 64, 0),
    "aten._euclidean_dist.default": ([spec(4, 8), spec(5, 8)], spec(4, 5), 200, 20, 0),
    "transformers.grouped_mm_fallback.default": ([ROWS, EXPERTS, OFFSETS], spec(12, 16), 1536, 192, 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    inputs, result, macs, products, bias = PRODUCTS[name]
    found = cost(op(name, inputs, [result]))
    assert found[:6] == ("matrix product", macs, products, bias, 0, None)


def test_a_fused_activation_is_other_work() -> None:
    found = cost(op("aten._addmm_activation.default", [spec(16), LEFT, RIGHT], [RESULT]))
    assert found[:5] == ("matrix product", 512, 64, 64, 64)


GROUPED = {
    "rows by experts": (ROWS, EXPERTS, spec(12, 16), 12 * 8 * 16),
    "a batch": (*BATCHED, 3 * 4 * 8 * 16),
    "gradient of the experts": (spec(8, 12), spec(12, 16), spec(3, 8, 16), 8 * 12 * 16),
    "experts by columns": (spec(3, 4, 8), spec(8, 12), spec(4, 12), 4 * 8 * 12),
}


@pytest.mark.parametrize("name", GROUPED)
def test_grouped_products_count_each_row_once(name: str) -> None:
    left, right, result, macs = GROUPED[name]
    found = cost(op("aten._grouped_mm.default", [left, right, OFFSETS], [result]))
    assert (found.kind, found.macs) == ("matrix product", macs)


def test_gradients_of_a_loop_over_experts() -> None:
    inputs = [ROWS, EXPERTS, OFFSETS, spec(12, 16)]
    found = cost(op("transformers.grouped_mm_fallback_backward.default", inputs, [ROWS, EXPERTS]))
    assert (found.macs, found.products) == (2 * 12 * 8 * 16, 12 * 8 + 3 * 8 * 16)


# Convolutions ---------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, bool, tuple]:
    """Inputs and arguments of `aten.convolution`, on meta."""
    dims, groups, transposed = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())
    size = st.integers(1, 3)
    into, out = groups * draw(size), groups * draw(size)
    channels = (into, out // groups) if transposed else (out, into // groups)
    kernel = [draw(size) for _ in range(dims)]
    stride, padding, dilation = ([draw(size)] * dims for _ in range(3))
    x = torch.empty(draw(size), into, *[draw(st.integers(8, 12)) for _ in range(dims)], device="meta")
    weight = torch.empty(*channels, *kernel, device="meta")
    return x, weight, draw(st.booleans()), (stride, padding, dilation, transposed, [0] * dims, groups)


def of(*tensors: torch.Tensor | None) -> list[TensorSpec]:
    return [spec(*t.shape) for t in tensors if t is not None]


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_convolutions_as_pytorch_counts_them(drawn: tuple) -> None:
    x, weight, has_bias, arguments = drawn
    y = torch.ops.aten.convolution(x, weight, None, *arguments)
    bias = torch.empty(y.shape[1]) if has_bias else None
    found = cost(op("aten.convolution.default", of(x, weight, bias), of(y), None, None, None, *arguments))
    assert 2 * found.macs == flop_counter.conv_flop_count(x.shape, weight.shape, y.shape, transposed=arguments[3])
    assert (found.products, found.bias) == (y.numel(), y.numel() if has_bias else 0)


@given(convolutions(), st.lists(st.booleans(), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_gradients_of_convolutions_cost_forward_each(drawn: tuple, mask: list[bool]) -> None:
    x, weight, _, arguments = drawn
    y = torch.ops.aten.convolution(x, weight, None, *arguments)
    forward = cost(op("aten.convolution.default", of(x, weight), of(y), None, None, None, *arguments))
    inputs, outputs = of(y, x, weight), of(x, weight)
    found = cost(op("aten.convolution_backward.default", inputs, outputs, None, None, None, None, *arguments, mask))
    assert found.macs == (mask[0] + mask[1]) * forward.macs
    assert found.products == mask[0] * x.numel() + mask[1] * weight.numel()
    assert found.bias == mask[2] * y.numel()


def test_a_convolution_over_time_first() -> None:
    inputs = [spec(9, 2, 4), spec(3, 4, 6), spec(6)]
    found = cost(op("aten.conv_tbc.default", inputs, [spec(7, 2, 6)], None, None, None, 0))
    assert (found.macs, found.bias) == (7 * 2 * 6 * 3 * 4, 7 * 2 * 6)


# Attention ------------------------------------------------------------------------------------------------------------

FORWARD = ["flash_attention", "efficient_attention", "cudnn_attention", "fused_attention_overrideable"]
QUERY, KEY, VALUE = spec(2, 8, 5, 16), spec(2, 4, 7, 16), spec(2, 4, 7, 24)
SCORES = 2 * 8 * 5 * 7


@pytest.mark.parametrize("name", FORWARD)
def test_attention_counts_query_heads(name: str) -> None:
    found = cost(op(f"aten._scaled_dot_product_{name}.default", [QUERY, KEY, VALUE], [spec(2, 8, 5, 24)]))
    assert (found.kind, found.macs) == ("attention", SCORES * 16 + SCORES * 24)
    assert found.products == SCORES + 2 * 8 * 5 * 24
    assert (found.other_kind, found.flops) == ("softmax", 5 * SCORES)


@pytest.mark.parametrize("name", FORWARD)
def test_gradients_of_attention_are_four_products_and_one_again(name: str) -> None:
    """Of values: scores by 24; of scores: 24; of queries and of keys: 16 each; and the scores once more."""
    inputs = [spec(2, 8, 5, 24), QUERY, KEY, VALUE]
    found = cost(op(f"aten._scaled_dot_product_{name}_backward.default", inputs, [QUERY, KEY, VALUE]))
    assert found.macs == SCORES * (24 + 24 + 16 + 16)
    assert found.products == 2 * 8 * (7 * 24 + 5 * 7 + 5 * 16 + 7 * 16)
    assert found.again == Cost("attention", macs=SCORES * 16, products=SCORES)


def test_attention_with_heads_after_length() -> None:
    inputs = [spec(2, 5, 8, 16), spec(2, 7, 4, 16), spec(2, 7, 4, 24)]
    found = cost(op("aten._flash_attention_forward.default", inputs, [spec(2, 5, 8, 24)]))
    assert found.macs == SCORES * (16 + 24)
    back = cost(op("aten._flash_attention_backward.default", [spec(2, 5, 8, 24), *inputs], inputs))
    assert (back.macs, back.products) == (2 * found.macs, 2 * 8 * (7 * 24 + 5 * 7 + 5 * 16 + 7 * 16))


def test_attention_over_packed_sequences_is_unknown() -> None:
    inputs = [spec(10, 8, 16), spec(10, 8, 16), spec(10, 8, 16), OFFSETS, OFFSETS]
    for name in ("_flash_attention_forward", "_efficient_attention_forward"):
        assert isinstance(cost(op(f"aten.{name}.default", inputs, [spec(10, 8, 16)])), Unknown)


def heads(size: int) -> list[TensorSpec]:
    return [spec(1, 2, 6, size)] * 3


def padded(size: int, to: int, count: int = 3) -> list[Op]:
    return [op("aten.constant_pad_nd.default", [spec(1, 2, 6, size)], [spec(1, 2, 6, to)]) for _ in range(count)]


def test_padded_heads_are_given_back_to_forward_and_backward() -> None:
    padding = Padding()
    forward = op("aten._scaled_dot_product_flash_attention.default", heads(24), heads(24)[:1])
    backward = op("aten._scaled_dot_product_flash_attention_backward.default", heads(24)[:1] + heads(24), heads(24))
    assert padding.undo(backward, []) == backward
    assert padding.undo(forward, padded(20, 24)).inputs == tuple(heads(20))
    assert padding.undo(backward, []).inputs[1:] == tuple(heads(20))


@pytest.mark.parametrize(
    "before", [[], padded(20, 24, 2), padded(20, 32), [op("aten.mul.Tensor", [], [])] * 3], ids=len
)
def test_heads_that_were_not_padded_stay(before: list[Op]) -> None:
    forward = op("aten._scaled_dot_product_flash_attention.default", heads(24), heads(24)[:1])
    assert Padding().undo(forward, before) == forward


# Recurrent layers -----------------------------------------------------------------------------------------------------

WEIGHTS = [spec(80, 10), spec(80, 5), spec(80), spec(80), spec(5, 20)]


@pytest.mark.parametrize("sequence", [spec(7, 3, 10), spec(21, 10)], ids=["padded", "packed"])
def test_a_layer_of_cudnn(sequence: TensorSpec) -> None:
    """An LSTM of 20 with a projection to 5, over 21 steps of 10."""
    arguments = (None, (None,) * len(WEIGHTS))
    found = cost(op("aten._cudnn_rnn.default", [sequence, *WEIGHTS, spec(1, 3, 5)], [spec(7, 3, 5)], *arguments))
    assert found[:4] == ("recurrent", 21 * (80 * 10 + 80 * 5 + 5 * 20), 21 * (80 + 80 + 5), 21 * 160)
    backward = cost(op("aten._cudnn_rnn_backward.default", [sequence, *WEIGHTS], [sequence], *arguments))
    assert (backward.macs, backward.products) == (2 * found.macs, 2 * found.products)


def test_a_layer_of_mkldnn() -> None:
    inputs = [spec(7, 3, 10), *WEIGHTS[:4], spec(1, 3, 20), spec(1, 3, 20)]
    assert cost(op("aten.mkldnn_rnn_layer.default", inputs, [spec(7, 3, 20)])).macs == 21 * 80 * (10 + 5)


def test_the_gates_of_a_step_are_other_work() -> None:
    inputs = [spec(3, 80), spec(3, 80), spec(3, 20)]
    found = cost(op("aten._thnn_fused_lstm_cell.default", inputs, [spec(3, 20)] * 2))
    assert (found.kind, found.macs, found.flops) == ("elementwise", 0, 240)


# Other work -----------------------------------------------------------------------------------------------------------

IMAGE = spec(2, 3, 8, 8)
OTHER = {
    "batch norm, 5 per element": ("aten.native_batch_norm.default", [IMAGE, spec(3)], [IMAGE], (), "norm", 5 * 384),
    "layer norm, 5": ("aten.native_layer_norm.default", [LEFT, spec(8), spec(8)], [LEFT], (), "norm", 160),
    "layer norm backward": ("aten.native_layer_norm_backward.default", [LEFT, LEFT], [LEFT], (), "norm", 160),
    "RMS norm, 4": ("aten._fused_rms_norm.default", [LEFT, spec(8)], [LEFT], (), "norm", 128),
    "softmax, 5": ("aten._softmax.default", [LEFT], [LEFT], (None, -1), "softmax", 160),
    "activation, 1": ("aten.gelu.default", [LEFT], [LEFT], (), "elementwise", 32),
    "in place": ("aten.relu_.default", [LEFT], [LEFT], (), "elementwise", 32),
    "out": ("aten.add.out", [LEFT, LEFT, LEFT], [LEFT], (), "elementwise", 32),
    "comparison of floats": ("aten.gt.Scalar", [LEFT], [spec(4, 8, dtype="bool")], (None, 0), "elementwise", 32),
    "integers": ("aten.add.Tensor", [spec(4, dtype="int64")] * 2, [spec(4, dtype="int64")], (), "elementwise", 0),
    "broadcast": ("aten.mul.Tensor", [spec(4, 1), spec(8)], [LEFT], (), "elementwise", 32),
    "of lists": ("aten._foreach_mul.List", [LEFT, spec(5)] * 2, [LEFT, spec(5)], ((None,) * 2,), "elementwise", 37),
    "of lists, in place": ("aten._foreach_mul_.List", [LEFT, spec(5)] * 2, [], ((None,) * 2,), "elementwise", 37),
    "norms of lists": ("aten._foreach_norm.Scalar", [LEFT, spec(5)], [spec()] * 2, ((None,) * 2,), "reduction", 37),
    "fused AdamW": ("aten._fused_adamw_.default", [spec(5)] * 5, [], ((None,),), "elementwise", 8 * 5),
    "sum, 1 per input": ("aten.sum.dim_IntList", [LEFT], [spec(4)], (), "reduction", 32),
    "maximum of one": ("aten.max.dim", [LEFT], [spec(4)], (), "reduction", 32),
    "maximum of two": ("aten.max.other", [LEFT, spec(8)], [LEFT], (), "elementwise", 32),
    "scatter, 1 per source": ("aten.index_add_.default", [LEFT, spec(2), spec(2, 8)], [LEFT], (), "reduction", 16),
    "accumulating store": (
        "aten.index_put_.default",
        [LEFT, spec(2, dtype="int64"), spec(2, 8)],
        [LEFT],
        (None, (None,), None, True),
        "reduction",
        16,
    ),
    "max pooling, K^2": (
        "aten.max_pool2d_with_indices.default",
        [IMAGE],
        [spec(2, 3, 4, 4)],
        (None, (2, 2)),
        "pooling",
        384,
    ),
    "one K for both": ("aten.avg_pool2d.default", [IMAGE], [spec(2, 3, 6, 6)], (None, (3,)), "pooling", 9 * 216),
    "average backward": (
        "aten.avg_pool2d_backward.default",
        [spec(2, 3, 6, 6), IMAGE],
        [IMAGE],
        (None, None, (3, 3)),
        "pooling",
        9 * 216,
    ),
    # 8 to 3: windows 0-2, 2-5 and 5-7, of 3 + 4 + 3
    "adaptive": ("aten._adaptive_avg_pool2d.default", [IMAGE], [spec(2, 3, 3, 3)], (None, (3, 3)), "pooling", 600),
    "bilinear, 4": ("aten.upsample_bilinear2d.vec", [IMAGE], [spec(2, 3, 9, 9)], (), "interpolation", 4 * 486),
    "distances": ("aten._cdist_forward.default", [spec(4, 8), spec(5, 8)], [spec(4, 5)], (), "reduction", 3 * 160),
    "embedding": ("aten.embedding.default", [spec(9, 8), spec(4)], [LEFT], (), "movement", 0),
    "view": ("aten.view.default", [LEFT], [spec(32)], (), "movement", 0),
    "dropout's numbers": ("aten.bernoulli_.float", [LEFT], [LEFT], (), "random", 0),
    "sort": ("aten.topk.default", [LEFT], [spec(4, 2)], (), "selection", 0),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_work(name: str) -> None:
    operator, inputs, outputs, arguments, kind, flops = OTHER[name]
    found = cost(op(operator, inputs, outputs, *arguments))
    assert (found.kind, found.macs, found.flops) == (kind, 0, flops)


# Bytes ----------------------------------------------------------------------------------------------------------------

TABLE, IDS = spec(1000, 8), spec(4, dtype="int64")
BYTES = {
    "a product": ("aten.mm.default", [LEFT, RIGHT], [RESULT], (), 4 * (32 + 128 + 64)),
    "in halves": ("aten.mm.default", [spec(4, 8, dtype="bfloat16")] * 2, [spec(4, 4, dtype="bfloat16")], (), 160),
    "in place": ("aten.add_.Tensor", [LEFT, LEFT], [LEFT], (), 4 * 96),
    "out": ("aten.add.out", [LEFT, LEFT, LEFT], [LEFT], (), 4 * 96),
    "a view": ("aten.transpose.int", [LEFT], [spec(8, 4)], (), 0),
    "nothing written": ("aten.empty.memory_format", [], [LEFT], (), 0),
    "zeros": ("aten.zeros.default", [], [LEFT], (), 128),
    "like another": ("aten.ones_like.default", [LEFT], [LEFT], (), 128),
    "filled": ("aten.fill_.Scalar", [LEFT], [LEFT], (), 128),
    "copied into": ("aten.copy_.default", [LEFT, spec(4, 8, dtype="bfloat16")], [LEFT], (), 64 + 128),
    "converted": ("aten._to_copy.default", [LEFT], [spec(4, 8, dtype="bfloat16")], (), 128 + 64),
    "looked up": ("aten.embedding.default", [TABLE, IDS], [LEFT], (), 32 + 128 + 128),
    "stored": ("aten.index_put_.default", [TABLE, IDS, LEFT], [TABLE], (None, (None,), None), 32 + 128 + 128),
    "lists copied into": ("aten._foreach_copy_.default", [LEFT, LEFT], [], ((None,), (None,)), 4 * 64),
    "lists in place": ("aten._foreach_add_.List", [LEFT, LEFT], [], ((None,), (None,)), 4 * 96),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_moved(name: str) -> None:
    operator, inputs, outputs, arguments, nbytes = BYTES[name]
    assert cost(op(operator, inputs, outputs, *arguments)).bytes_moved == nbytes


# What is not known ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("aten._fft_r2c.default", "no rule"),
        ("aten.linalg_qr.default", "no rule"),
        ("aten._ctc_loss.default", "no rule"),
        ("mylib.mm.default", "mylib"),
        ("torchvision.roi_align.default", "torchvision"),
        ("flex_attention", "flex_attention"),
    ],
)
def test_what_has_no_rule_says_so(name: str, word: str) -> None:
    found = cost(op(name, [LEFT], [LEFT]))
    assert isinstance(found, Unknown)
    assert word in found.reason
