"""The outputs that are made without PyTorch's meta kernels, held against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.virtual.shapes import shape_of

aten = torch.ops.aten
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
IN_PLACE = (aten.add_.Tensor, aten.mul_.Tensor, aten.div_.Tensor)
DTYPES = (*FLOATS, torch.float64, torch.int64)


@st.composite
def tensors(draw, *, shape=None, dtypes=DTYPES, dims=(1, 5)):
    """A data-free tensor: contiguous, permuted, sliced or expanded, dimensions of one element and of none included."""
    size = list(shape) if shape is not None else draw(st.lists(st.integers(0, 4), min_size=dims[0], max_size=dims[1]))
    order = draw(st.permutations(range(len(size))) | st.just(range(len(size))))
    made = torch.empty([size[d] for d in order], dtype=draw(st.sampled_from(dtypes)), device="meta")
    made = made.permute([order.index(d) for d in range(len(size))])
    kind = draw(st.sampled_from(["whole", "whole", "sliced", "expanded"]))
    if kind == "sliced":
        return torch.cat([made, made], -1)[..., ::2]
    return made[..., :1].expand(size) if kind == "expanded" and size[-1] else made


@st.composite
def images(draw):
    """Contiguous or channels last."""
    tensor = draw(tensors(dims=(2, 5)))
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    return tensor.contiguous(memory_format=last) if last is not None and draw(st.booleans()) else tensor


def told(made) -> list[tuple]:
    listed = [made] if isinstance(made, torch.Tensor) else list(made)
    return [(t.shape, t.stride(), t.dtype, t.device, t.storage_offset(), t.untyped_storage().nbytes()) for t in listed]


def answered(func, *args, **kwargs) -> bool:
    """Whether there is an answer; if there is, it is PyTorch's, which has one too."""
    answer = shape_of(func)(*args, **kwargs)
    if answer is NotImplemented:
        return False
    storages = {t.untyped_storage()._cdata for t in ([answer] if isinstance(answer, torch.Tensor) else answer)}
    assert len(storages) == len(told(answer))
    expected = func(*args, **kwargs)
    assert told(answer) == told(expected)
    given_back = args[0] if func in IN_PLACE else kwargs.get("out")
    assert (answer is given_back) == (expected is given_back)
    return True


def plain(*size, dtype=torch.float32) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device="meta")


def channels_last(*size, dtype=torch.float32) -> torch.Tensor:
    return plain(*size, dtype=dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("func", [aten.relu.default, aten.gelu.default, aten.zeros_like.default], ids=str)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_tensor(func, data):
    answered(func, data.draw(tensors()))


@pytest.mark.parametrize("func", [aten.add.Tensor, aten.mul.Tensor, *IN_PLACE], ids=str)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_two_tensors(func, data):
    first = data.draw(tensors())
    answered(
        func,
        first,
        data.draw(st.just(torch.empty_like(first)) | tensors(shape=first.shape) | st.sampled_from((2, 0.5, True))),
    )
    narrow = [data.draw(st.sampled_from((1, size))) for size in first.shape]
    answered(func, first, data.draw(tensors(shape=narrow[data.draw(st.integers(0, len(narrow) - 1)) :])))


@pytest.mark.parametrize("func", [aten.sum.dim_IntList, aten.mean.dim], ids=str)
@given(data=st.data(), keepdim=st.booleans(), dtype=st.sampled_from((None, torch.float64)))
@settings(max_examples=150, deadline=None)
def test_reductions(func, data, keepdim, dtype):
    tensor = data.draw(tensors())
    dims = data.draw(st.lists(st.integers(-tensor.dim(), tensor.dim() - 1), max_size=3))
    answered(func, tensor, dims, keepdim, dtype=dtype)


@given(data=st.data(), half_to_float=st.booleans())
@settings(max_examples=150, deadline=None)
def test_softmax(data, half_to_float):
    tensor = data.draw(tensors())
    dim = data.draw(st.integers(-tensor.dim(), tensor.dim() - 1))
    answered(aten._softmax.default, tensor, dim, half_to_float)
    answered(aten._softmax.out, tensor, dim, half_to_float, out=data.draw(tensors(shape=tensor.shape)))


@given(
    tensor=tensors(), dtype=st.sampled_from((None, *DTYPES)), layout=st.sampled_from((None, torch.contiguous_format))
)
@settings(max_examples=60, deadline=None)
def test_zeros_of_another_type(tensor, dtype, layout):
    answered(aten.zeros_like.default, tensor, dtype=dtype, memory_format=layout)


SIZES = st.tuples(*[st.integers(0, 5)] * 4)


@given(data=st.data(), sizes=SIZES)
@settings(max_examples=150, deadline=None)
def test_products(data, sizes):
    count, rows, inner, columns = sizes
    left, right = (data.draw(tensors(shape=shape)) for shape in ((rows, inner), (inner, columns)))
    bias = data.draw(tensors(shape=(columns,)) | tensors(shape=(rows, columns)) | tensors(dims=(1, 2)))
    if left.dtype == right.dtype:
        answered(aten.mm.default, left, right)
        if bias.dtype == left.dtype:
            answered(aten.addmm.default, bias, left, right, beta=2)
            answered(aten._addmm_activation.default, bias, left, right, use_gelu=True)
    stacks = [data.draw(tensors(shape=(count, *shape))) for shape in ((rows, inner), (inner, columns))]
    if stacks[0].dtype == stacks[1].dtype:
        answered(aten.bmm.default, *stacks)
        answered(aten.bmm.out, *stacks, out=data.draw(tensors(shape=(count, rows, columns))))


@given(data=st.data(), normalized=st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_layer_norm(data, normalized):
    tensor = data.draw(tensors(dims=(normalized, 4)))
    shape = list(tensor.shape[-normalized:])
    weight = data.draw(st.none() | tensors(shape=shape, dtypes=FLOATS))
    answered(aten.native_layer_norm.default, tensor, shape, weight, weight, 1e-5)


@given(data=st.data(), tensor=images(), training=st.booleans())
@settings(max_examples=300, deadline=None)
def test_batch_norm(data, tensor, training):
    member = st.none() | tensors(shape=tensor.shape[1:2], dtypes=FLOATS)
    weight, bias, mean, variance = (data.draw(member) for _ in range(4))
    answered(aten.native_batch_norm.default, tensor, weight, bias, mean, variance, training, 0.1, 1e-5)


def batch_norm_of(tensor, *, training, running=torch.float32, weight=torch.float32):
    affine, statistics = ([plain(tensor.shape[1], dtype=d)] * 2 for d in (weight, running))
    return aten.native_batch_norm.default, tensor, *affine, *statistics, training, 0.1, 1e-5


ANSWERED = [
    (aten.mm.default, plain(2, 3), plain(4, 3).T),
    (aten.bmm.default, plain(5, 2, 3), plain(5, 4, 3).mT),
    (aten.addmm.default, plain(4), plain(2, 3), plain(4, 3).T),
    (aten.relu.default, plain(2, 1, 3, 1, dtype=torch.bfloat16)),
    (aten.add.Tensor, plain(2, 3), plain(2, 3)),
    (aten.add.Tensor, plain(2, 3, 4), plain(3, 2, 4).transpose(0, 1)),
    (aten.add.Tensor, plain(1, 3, 4), plain(3, 1, 4).transpose(0, 1)),
    (aten.div_.Tensor, plain(2, 3), 8),
    (aten.sum.dim_IntList, plain(2, 3, 4), [1]),
    (aten.mean.dim, plain(2, 3, 4), [-1, -2], True),
    (aten.mul.Tensor, channels_last(2, 3, 4, 5), plain(3, 1, 1)),
    (aten.add_.Tensor, plain(2, 3).T, plain(2)),
    (aten.bmm.default, plain(5, 2, 3), plain(5, 3, 4)),
    (aten._softmax.default, plain(2, 3), -1, False),
    (aten.gelu.default, channels_last(2, 3, 4, 5)),
    (aten.zeros_like.default, plain(2, 3, dtype=torch.int64)),
    (aten.native_layer_norm.default, plain(2, 3, 4, dtype=torch.float16), [4], plain(4), plain(4), 1e-5),
    *(
        batch_norm_of(make(2, 3, 4, 5, dtype=dtype), training=training, weight=weight)
        for make in (plain, channels_last)
        for training in (True, False)
        for dtype in FLOATS
        for weight in {dtype, torch.float32}
    ),
]


@pytest.mark.parametrize("call", ANSWERED, ids=lambda call: str(call[0]))
def test_what_models_do_is_answered(call):
    assert answered(*call)


REFUSED = [
    (aten.mm.default, plain(2, 3), plain(4, 3)),
    (aten.mm.default, torch.empty(2, 3), torch.empty(3, 4)),
    (aten.bmm.default, plain(5, 2, 3), plain(4, 3, 4)),
    (aten.addmm.default, plain(3), plain(2, 3), plain(3, 4)),
    (aten.addmm.default, plain(2, 4), plain(2, 3), plain(3, 4)),
    (aten.add.Tensor, plain(2, 1, 3), plain(3, 1, 2).transpose(0, 2)),
    (aten.add.Tensor, plain(3), plain(2, 3)),
    (aten.add_.Tensor, plain(3), plain(2, 3)),
    (aten.add.Tensor, plain(2, 3), torch.ones(2, 3)),
    (aten.add_.Tensor, plain(2, 3), plain(2, 3, dtype=torch.float64)),
    (aten.add_.Tensor, torch.ones(2, 3), torch.ones(2, 3)),
    (aten.sum.dim_IntList, plain(2, 3), [1, -1]),
    (aten.sum.dim_IntList, plain(2, 3), None),
    (aten.native_layer_norm.default, plain(2, 3, 4), [3], None, None, 1e-5),
    (aten.native_batch_norm.default, plain(4, 3), plain(4), None, None, None, True, 0.1, 1e-5),
    (aten.native_batch_norm.default, plain(4, 3), None, None, None, None, False, 0.1, 1e-5),
    (aten.native_batch_norm.default, plain(1, 3), None, None, None, None, True, 0.1, 1e-5),
]


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: str(call[0]))
def test_what_pytorch_must_judge_is_left_to_it(call):
    func, *args = call
    assert shape_of(func)(*args) is NotImplemented


class Odd(torch.Tensor):
    """One of the classes that may answer for themselves."""


@pytest.mark.parametrize("call", ANSWERED, ids=lambda call: str(call[0]))
def test_classes_answer_for_themselves(call):
    func, *args = call
    for index, value in enumerate(args):
        if isinstance(value, torch.Tensor):
            odd = [*args[:index], value.as_subclass(Odd), *args[index + 1 :]]
            assert shape_of(func)(*odd) is NotImplemented
