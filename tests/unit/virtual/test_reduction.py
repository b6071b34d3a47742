"""Reductions: the loop the iterator makes of a layout, and the staging buffers of `gpu_reduce_kernel`."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tonnage
from tonnage.ledger import Category
from tonnage.virtual.kernels.iteration import reduction
from tonnage.virtual.kernels.reduction import Card, staging

MiB = 2**20
CARDS = {"A100": Card(108, 2048), "H100": Card(132, 2048), "RTX 4090": Card(128, 1536), "T4": Card(40, 1024)}


def column_sum(rows: int, columns: int):
    return reduction((rows, columns), (columns, 1), (0,), itemsize=4, out_itemsize=4)


# The regime is worked out by hand: a block is 32 threads of 4 columns wide and 4 high, so a thread has rows / 4 values,
# and buffers are `4 B x columns x blocks x 128`. Below 256 values a thread (1024 rows) nothing is split. Where every
# thread keeps 16 values, blocks = rows / 64 and the buffer is 8 B x rows x columns; a full card allows
# SMs x (threads per SM / 128) blocks over columns / 128 and the buffer is 512 B x SMs x threads per SM.
@pytest.mark.parametrize(
    ("rows", "columns", "sizes"),
    [
        (512, 768, {"A100": 0, "H100": 0, "RTX 4090": 0, "T4": 0}),
        (1023, 768, {"A100": 6, "H100": 6, "RTX 4090": 6, "T4": 6}),
        (1020, 768, {"A100": 0, "H100": 0, "RTX 4090": 0, "T4": 0}),
        (1024, 768, {"A100": 6, "H100": 6, "RTX 4090": 6, "T4": 6}),
        (2048, 1024, {"A100": 16, "H100": 16, "RTX 4090": 16, "T4": 16}),
        (8192, 768, {"A100": 48, "H100": 48, "RTX 4090": 48, "T4": 20.25}),
        (8192, 3072, {"A100": 108, "H100": 132, "RTX 4090": 96, "T4": 21}),
        (16384, 4096, {"A100": 108, "H100": 132, "RTX 4090": 96, "T4": 32}),
    ],
)
@pytest.mark.parametrize("card", CARDS)
def test_a_column_sum_is_staged_in_mebibytes(rows, columns, sizes, card):
    staged, semaphores = staging(column_sum(rows, columns), CARDS[card], itemsize=4, accumulator=4)

    assert staged == sizes[card] * MiB
    assert semaphores == (4 * -(-columns // 128) if staged else 0)


@pytest.mark.parametrize("columns", [767, 766, 765])
def test_an_odd_width_takes_fewer_columns_a_thread(columns):
    """765 to 767 columns: vectors of 1, 2 and 1, so blocks are 32 or 64 columns wide and 16 or 8 high."""
    vector = 2 if columns % 2 == 0 else 1
    height = 512 // vector // 32
    per_thread = 8192 // height
    blocks = min(-(-108 * (2048 // (32 * height)) // -(-(columns // vector) // 32)), -(-per_thread // 16))
    expected = 4 * columns * blocks * 32 * vector

    staged, _ = staging(column_sum(8192, columns), CARDS["A100"], itemsize=4, accumulator=4)

    assert staged == expected


def test_a_row_sum_is_staged_by_the_output_alone():
    """One output of 2^24 inputs: 512 threads of four loads, 8192 values each, on 432 blocks: 4 B each."""
    loop = reduction((2**24,), (1,), (), itemsize=4, out_itemsize=4)

    assert staging(loop, CARDS["A100"], itemsize=4, accumulator=4) == (4 * 432, 4)


def test_channels_last_images_are_summed_as_columns():
    n, c, h, w = 32, 64, 56, 56
    loop = reduction((n, c, h, w), (h * w * c, 1, w * c, c), (0, 2, 3), itemsize=4, out_itemsize=4)

    assert (loop.outputs, loop.inputs_per_output, len(loop.shape)) == (c, n * h * w, 2)
    staged, _ = staging(loop, CARDS["A100"], itemsize=4, accumulator=4)
    assert staged == 12.25 * MiB


def test_images_of_whole_channels_are_summed_within_rows():
    """NCHW: pixels are the fastest and reduced; images are reduced too, which makes a third loop."""
    loop = reduction((32, 64, 56, 56), (64 * 3136, 3136, 56, 1), (0, 2, 3), itemsize=4, out_itemsize=4)

    assert loop.shape == (3136, 32, 64)
    assert loop.reduced == 2
    staged, _ = staging(loop, CARDS["A100"], itemsize=4, accumulator=4)
    assert staged < MiB


def test_sizes_of_one_do_not_part_what_lies_together():
    plain = column_sum(4096, 512)

    assert reduction((4096, 1, 512), (512, 512, 1), (0, 1), itemsize=4, out_itemsize=4) == plain
    assert reduction((1, 4096, 512), (4096 * 512, 512, 1), (0, 1), itemsize=4, out_itemsize=4) == plain
    assert reduction((8, 512, 512), (512 * 512, 512, 1), (0, 1), itemsize=4, out_itemsize=4) == plain


@st.composite
def layouts(draw):
    """A shape, the strides of a permuted, perhaps expanded or sliced tensor, and dimensions to reduce."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    strides, step = [0] * len(shape), draw(st.sampled_from([1, 1, 2]))
    for d in order:
        strides[d] = step
        step *= shape[d] + draw(st.sampled_from([0, 0, 1]))
    for d in range(len(shape)):
        if draw(st.integers(0, 5)) == 0:
            strides[d] = 0
    dims = draw(st.sets(st.integers(0, len(shape) - 1)))
    return tuple(shape), tuple(strides), tuple(dims)


@given(layouts())
@settings(max_examples=300, deadline=None)
def test_the_loop_pairs_every_input_with_its_output(layout):
    """Second method: walk the tensor itself, and the loop, and compare the pairs of offsets."""
    shape, strides, dims = layout
    over = set(dims) or set(range(len(shape)))
    kept = [d for d in range(len(shape)) if d not in over]
    out = {d: prod(shape[e] for e in kept if e > d) * 2 for d in kept}
    expected = sorted(
        (sum(i * s for i, s in zip(index, strides, strict=True)) * 4, sum(index[d] * out[d] for d in kept))
        for index in product(*map(range, shape))
    )

    loop = reduction(shape, strides, dims, itemsize=4, out_itemsize=2)

    assert expected == sorted(
        (
            sum(i * s for i, s in zip(index, loop.into, strict=True)),
            sum(i * s for i, s in zip(index, loop.out, strict=True)),
        )
        for index in product(*map(range, loop.shape))
    )
    assert loop.outputs == prod(shape[d] for d in kept)
    assert loop.outputs * loop.inputs_per_output == prod(shape)


def test_beyond_two_gibibytes_the_loop_is_halved():
    """3 GiB of fp32 columns: the rows are halved, each half then within 31 bits."""
    loop = column_sum(786432, 1024)

    pieces = list(loop.pieces())

    assert [piece.shape for piece in pieces] == [(393216, 1024)] * 2
    assert all(piece.indexable for piece in pieces)


# On the virtual card -------------------------------------------------------------------------------------------------


def scratch_of(run, *, card="A100", torch_version=None, make=lambda: None):
    """Sizes of the workspaces that `run(make())` took."""
    with tonnage.virtual_gpu(card, torch_version=torch_version) as gpu:
        made = make()
        start = len(gpu.recording.ledger.sizes)
        run(made)
        ledger = gpu.recording.ledger
        return [
            ledger.sizes[i]
            for i in range(start, len(ledger.sizes))
            if ledger.categories[i] == Category.WORKSPACE and ledger.sizes[i] != 8_519_680
        ]


def zeros(*shape, dtype=torch.float32):
    return lambda: torch.zeros(*shape, device="cuda", dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_partial_sums_are_fp32_for_every_narrow_type(dtype):
    assert scratch_of(lambda t: t.sum(0), make=zeros(8192, 768, dtype=dtype)) == [48 * MiB, 24]


def test_partial_sums_are_double_for_doubles():
    assert scratch_of(lambda t: t.sum(0), make=zeros(8192, 768, dtype=torch.float64)) == [96 * MiB, 24]


def test_the_mean_is_staged_like_the_sum():
    assert scratch_of(lambda t: t.mean(0), make=zeros(8192, 768, dtype=torch.float16)) == [48 * MiB, 24]


def test_extremes_are_staged_in_the_type_of_the_input():
    assert scratch_of(lambda t: t.amax(0), make=zeros(8192, 768, dtype=torch.float16)) == [24 * MiB, 24]


def test_an_extreme_with_its_index_is_staged_in_pairs():
    assert scratch_of(lambda t: t.max(0), make=zeros(8192, 768)) == [4 * 48 * MiB, 24]


def test_variances_are_staged_with_mean_square_and_counts():
    assert scratch_of(lambda t: t.var(0), make=zeros(8192, 768)) == [4 * 48 * MiB, 24]


def test_truth_is_staged_in_bytes():
    assert scratch_of(lambda t: t.any(0), make=zeros(8192, 768)) == [12 * MiB, 24]


def test_a_sum_of_bools_is_cast_whole_first():
    """make_reduction: `self.to(int64)`, 8 B an element; 1000 rows of 100 columns are too few to split."""
    assert scratch_of(lambda t: t.sum(0), make=zeros(1000, 100, dtype=torch.bool)) == [800_000]


def test_a_half_summed_in_fp32_is_not_cast():
    assert scratch_of(lambda t: t.sum(0, dtype=torch.float32), make=zeros(64, 64, dtype=torch.float16)) == []


def test_halves_beyond_two_gibibytes_meet_in_an_fp32_buffer():
    """3 GiB of bf16 into bf16: an accumulator of 4 B an output, then a buffer for each of two halves."""
    found = scratch_of(lambda t: t.sum(0), card="H100", make=zeros(786432, 2048, dtype=torch.bfloat16))

    assert found[0] == 2048 * 4
    assert len(found) == 5
    assert found[1:3] == found[3:5]


def test_logsumexp_keeps_the_maxima_and_the_shifted_exponentials():
    """ReduceOps.cpp: 256 maxima of 4 B, then 256 x 100 numbers."""
    assert scratch_of(lambda t: t.logsumexp(1), make=zeros(256, 100)) == [1024, 102_400]


def test_a_tensor_of_the_host_takes_none():
    with tonnage.virtual_gpu("A100") as gpu, gpu.host():
        torch.zeros(8192, 768).sum(0)
        assert torch.cuda.max_memory_allocated() == 0
