"""What is remembered of a call, over many layouts: what PyTorch makes for other tensors that lie as those did."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tonnage.virtual.remembered import Remembered, key_of

aten = torch.ops.aten
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
ONE = [aten.gelu.default, aten.neg.default, aten.rsqrt.default, aten.tanh.default, aten.clone.default]
TWO = [aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.silu_backward.default, aten.maximum.default]


@st.composite
def tensors(draw, *, shape=None, dtypes=tuple(DTYPES)):
    """A data-free tensor: contiguous, permuted or sliced."""
    size = list(shape) if shape is not None else draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(size))))
    made = torch.empty([size[d] for d in order], dtype=draw(st.sampled_from(dtypes)), device="meta")
    made = made.permute([order.index(d) for d in range(len(size))])
    if draw(st.booleans()):
        made = torch.cat([made, made], -1)[..., ::2]
    return made


def another(value):
    """A tensor that lies as `value` does, in memory of its own."""
    if isinstance(value, list):
        return [another(item) for item in value]
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def told(out) -> list:
    listed = [out] if isinstance(out, torch.Tensor) else list(out)
    return [
        (t.shape, t.stride(), t.dtype, t.storage_offset(), t.untyped_storage().nbytes(), t.device)
        if isinstance(t, torch.Tensor)
        else t
        for t in listed
    ]


def compare(func, *args) -> None:
    """What PyTorch refuses is not asked for; what is remembered is what PyTorch makes."""
    try:
        out = func(*args)
    except (RuntimeError, TypeError, NotImplementedError):
        assume(False)
    memory = Remembered()
    inputs = [t for value in args for t in (value if isinstance(value, list) else [value]) if torch.is_tensor(t)]
    memory.keep(key_of(func, args, {}), args, inputs, out)
    others = tuple(another(value) for value in args)
    made = memory.get(key_of(func, others, {}))
    assert made is not None
    again, asked = made.again(others), func(*others)
    assert type(again) is type(asked)
    assert told(again) == told(asked)


@pytest.mark.parametrize("func", ONE, ids=str)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_one_tensor(func, data):
    compare(func, data.draw(tensors()))


@pytest.mark.parametrize("func", TWO, ids=str)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_two_tensors(func, data):
    first = data.draw(tensors())
    compare(func, first, data.draw(tensors(shape=first.shape) | tensors()))


@given(data=st.data(), scalar=st.sampled_from([2, 2.0, True]))
@settings(max_examples=60, deadline=None)
def test_a_tensor_and_a_number(data, scalar):
    compare(aten.mul.Tensor, data.draw(tensors()), scalar)


@given(data=st.data(), sizes=st.tuples(*[st.integers(1, 5)] * 3))
@settings(max_examples=40, deadline=None)
def test_addmm(data, sizes):
    rows, inner, columns = sizes
    floats = {"dtypes": (torch.float32,)}
    compare(
        aten.addmm.default,
        data.draw(tensors(shape=(columns,), **floats) | tensors(shape=(rows, columns), **floats)),
        data.draw(tensors(shape=(rows, inner), **floats)),
        data.draw(tensors(shape=(inner, columns), **floats)),
    )


@given(data=st.data(), p=st.sampled_from([0.1, 1.0]))
@settings(max_examples=40, deadline=None)
def test_dropout(data, p):
    compare(aten.native_dropout.default, data.draw(tensors(dtypes=FLOATS)), p, True)


@pytest.mark.parametrize(("p", "train"), [(0.0, True), (0.1, False)])
def test_dropout_that_returns_its_input_is_not_remembered(p, train):
    x = torch.empty(3, device="meta")
    memory = Remembered()
    memory.keep("call", (x, p, train), [x], aten.native_dropout.default(x, p, train))
    assert memory.get("call") is None


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    dtype=st.sampled_from(FLOATS),
    wanted=st.lists(st.booleans(), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_layer_norm_and_its_backward(shape, dtype, wanted):
    x = torch.empty(shape, dtype=dtype, device="meta")
    weight, bias = (torch.empty(shape[-1], dtype=dtype, device="meta") for _ in range(2))
    compare(aten.native_layer_norm.default, x, shape[-1:], weight, bias, 1e-5)
    _, mean, rstd = aten.native_layer_norm.default(x, shape[-1:], weight, bias, 1e-5)
    compare(aten.native_layer_norm_backward.default, x, x, shape[-1:], mean, rstd, weight, bias, wanted)


@given(data=st.data(), count=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_lists_of_tensors(data, count):
    listed = [data.draw(tensors(dtypes=FLOATS)) for _ in range(count)]
    compare(aten._foreach_sqrt.default, listed)
    compare(aten._foreach_add.List, listed, listed)
    compare(aten._foreach_add.Scalar, listed, 1.0)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_written_to_is_returned(data):
    compare(aten.fill_.Scalar, data.draw(tensors()), 0)
