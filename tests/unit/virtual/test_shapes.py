"""The outputs that are made without PyTorch's meta kernels, held against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.virtual.shapes import shape_of

aten = torch.ops.aten
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64]
ONE = [aten.gelu.default, aten.silu.default, aten.relu.default, aten.tanh.default]
TWO = [
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.sub.Tensor,
    aten.div.Tensor,
    aten.gelu_backward.default,
    aten.silu_backward.default,
    aten.tanh_backward.default,
]


@st.composite
def tensors(draw, *, shape=None, dtypes=tuple(DTYPES)):
    """A data-free tensor: contiguous, permuted, sliced or expanded."""
    size = list(shape) if shape is not None else draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(size))))
    made = torch.empty([size[d] for d in order], dtype=draw(st.sampled_from(dtypes)), device="meta")
    made = made.permute([order.index(d) for d in range(len(size))])
    if draw(st.booleans()):
        made = torch.cat([made, made], -1)[..., ::2]
    return made


def strides(tensor: torch.Tensor) -> list[int]:
    """Those that say something: not of a dimension of one element."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def told(tensors_) -> list[tuple]:
    listed = [tensors_] if isinstance(tensors_, torch.Tensor) else list(tensors_)
    return [(t.shape, strides(t), t.dtype, t.storage_offset(), t.untyped_storage().nbytes()) for t in listed]


def compare(func, *args) -> None:
    """What PyTorch refuses is not asked for; what is answered is PyTorch's answer."""
    make = shape_of(func)
    assert make is not None
    try:
        expected = told(func(*args))
    except (RuntimeError, TypeError):
        return
    answer = make(*args)
    if answer is not NotImplemented:
        assert told(answer) == expected


@pytest.mark.parametrize("func", ONE, ids=str)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_tensor(func, data):
    compare(func, data.draw(tensors()))


@pytest.mark.parametrize("func", TWO, ids=str)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_two_tensors(func, data):
    first = data.draw(tensors())
    compare(func, first, data.draw(tensors(shape=first.shape) | tensors()))


@given(data=st.data(), sizes=st.tuples(*[st.integers(1, 5)] * 3))
@settings(max_examples=80, deadline=None)
def test_addmm(data, sizes):
    rows, inner, columns = sizes
    compare(
        aten.addmm.default,
        data.draw(tensors(shape=(columns,)) | tensors(shape=(rows, columns))),
        data.draw(tensors(shape=(rows, inner))),
        data.draw(tensors(shape=(inner, columns))),
    )


FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@given(data=st.data(), p=st.sampled_from([0.0, 0.1, 1.0]), train=st.booleans())
@settings(max_examples=60, deadline=None)
def test_dropout(data, p, train):
    compare(aten.native_dropout.default, data.draw(tensors(dtypes=FLOATS)), p, train)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_dropout_backward(data):
    grad = data.draw(tensors(dtypes=FLOATS))
    compare(aten.native_dropout_backward.default, grad, data.draw(tensors(shape=grad.shape, dtypes=(torch.bool,))), 1.1)


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), dtype=st.sampled_from((torch.float32, torch.float64)))
@settings(max_examples=60, deadline=None)
def test_layer_norm_and_its_backward(shape, dtype):
    x = torch.empty(shape, dtype=dtype, device="meta")
    weight, bias = (torch.empty(shape[-1], dtype=dtype, device="meta") for _ in range(2))
    compare(aten.native_layer_norm.default, x, shape[-1:], weight, bias, 1e-5)
    _, mean, rstd = aten.native_layer_norm.default(x, shape[-1:], weight, bias, 1e-5)
    wanted = [True, True, True]
    compare(aten.native_layer_norm_backward.default, x, x, shape[-1:], mean, rstd, weight, bias, wanted)


@given(data=st.data(), count=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_lists_of_tensors(data, count):
    listed = [data.draw(tensors(dtypes=FLOATS)) for _ in range(count)]
    compare(aten._foreach_sqrt.default, listed)
    compare(aten._foreach_add.List, listed, listed)
    compare(aten._foreach_add.Scalar, listed, 1.0)
