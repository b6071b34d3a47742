"""Reductions: the staging buffer and semaphores of `gpu_reduce_kernel`, and inputs that are cast first.

ATen/native/cuda/Reduce.cuh, setReduceConfig and global_memory_size: when there is much to reduce for each output and
too few outputs to fill the card, several blocks work on one output and meet in a buffer of global memory. For a
reduction over the slow dimension (every bias gradient: `grad.sum(0)`) the buffer is over-provisioned by the block's
width, up to 512 B x SMs x threads per SM. The same kernel serves sum, mean, norm, extremes and variance; they differ
in the size of the accumulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tonnage.virtual.kernels.iteration import Iteration, reduction
from tonnage.virtual.layout import is_dense

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten

MAX_THREADS = 512
WARP = 32
MIN_PER_THREAD, MAX_PER_THREAD = 16, 256
"""min_values_per_thread and max_values_per_thread."""
WELFORD, WITH_INDEX = 16, 16
"""Bytes of WelfordData<float, int32_t> (SharedReduceOps.h) and of a pair of a value and an int64 index."""
_HALVES = (torch.float16, torch.bfloat16)


class Card(NamedTuple):
    """What the size of a launch depends on."""

    sm_count: int
    threads_per_sm: int


def staging(
    loop: Iteration, card: Card, *, itemsize: int, accumulator: int, offset: int = 0, input_vector: int = 4
) -> tuple[int, int]:
    """Bytes of the staging buffer and of the semaphores; (0, 0) when one block does for each output.

    `offset` is where the input begins in its storage, in elements; `accumulator` the bytes of a partial result.

    >>> bias_gradient = reduction((8192, 768), (768, 1), (0,), itemsize=4, out_itemsize=4)
    >>> staging(bias_gradient, Card(sm_count=108, threads_per_sm=2048), itemsize=4, accumulator=4)   # A100
    (50331648, 24)
    """
    outputs, inputs, over = loop.outputs, loop.inputs_per_output, loop.reduced
    fastest = over == len(loop.shape) or loop.into[0] < loop.into[over]
    dim0, dim1 = (inputs, outputs) if fastest else (outputs, inputs)
    vector = 1
    if loop.shape and loop.into[0 if fastest else over] == itemsize:
        if not fastest:
            vector = _output_vector(loop, itemsize, offset)
            dim0 //= vector
        elif dim0 >= 128 and over == 1:
            dim0 //= input_vector
    width, height = _block(dim0, dim1, MAX_THREADS // vector)
    step_in, step_out = (width, 1) if fastest else (1, width)
    split = _ceil(inputs, step_in) >= min(height * MIN_PER_THREAD, MAX_PER_THREAD)
    step_in, step_out = (step_in * height, step_out) if split else (step_in, step_out * height)
    per_thread = _ceil(inputs, step_in)
    grid = _ceil(outputs // vector, step_out)
    target = card.sm_count * (card.threads_per_sm // (width * height))
    if not split or per_thread < MAX_PER_THREAD or grid > target:
        return 0, 0
    enough, least = _ceil(per_thread, MIN_PER_THREAD), _ceil(per_thread, MAX_PER_THREAD)
    blocks = max(min(_ceil(target, grid), enough), least)
    if blocks <= 1:
        return 0, 0
    return accumulator * outputs * blocks * (1 if fastest else width * vector), 4 * grid


def _output_vector(loop: Iteration, itemsize: int, offset: int) -> int:
    """get_output_vec_size: how many of 4, 2, 1 neighbouring outputs one thread takes."""
    over = loop.reduced
    others = (stride // itemsize for dim, stride in enumerate(loop.into) if dim != over)
    numbers = (offset, loop.shape[over], *others)
    return next(v for v in (4, 2, 1) if all(n % v == 0 for n in numbers))


def _block(dim0: int, dim1: int, max_threads: int) -> tuple[int, int]:
    """set_block_dimension: as wide as a warp first, then as high as it goes, then wider if threads are left."""
    power0 = _power_of_two(dim0) if dim0 < max_threads else max_threads
    power1 = _power_of_two(dim1) if dim1 < max_threads else max_threads
    width = min(power0, WARP)
    height = min(power1, max_threads // width)
    return min(power0, max_threads // height), height


def _power_of_two(n: int) -> int:
    """The largest power of two that is not above `n`, at least 1."""
    return 1 << (max(n, 1).bit_length() - 1)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


class Job(NamedTuple):
    """One launch of a reduction, as plain values, so that its sizes are worked out once."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dims: tuple[int, ...]
    itemsize: int
    out_itemsize: int
    accumulator: int
    input_vector: int
    in_output: bool
    """The output can hold partial results (can_accumulate_in_output)."""


@lru_cache(maxsize=4096)
def buffers(job: Job, card: Card) -> tuple[int, ...]:
    """What `gpu_reduce_kernel` takes, in order; a negative number is given back before the next."""
    loop = reduction(job.shape, job.strides, job.dims, itemsize=job.itemsize, out_itemsize=job.out_itemsize)
    pieces = list(loop.pieces())
    found: list[int] = []
    if len(pieces) > 1 and not job.in_output:
        span = max((size * stride for size, stride in zip(loop.shape, loop.out, strict=True)), default=0)
        found.append(max(span // job.out_itemsize, 1) * job.accumulator)
    for number, piece in enumerate(pieces):
        sizes = staging(
            piece,
            card,
            itemsize=job.itemsize,
            accumulator=job.accumulator,
            offset=job.offset,
            input_vector=job.input_vector,
        )
        found += [n for n in sizes if n]
        if number < len(pieces) - 1:
            found += [-n for n in reversed(sizes) if n]
    return tuple(found)


def reduce_buffers(
    gpu: VirtualGpu,
    tensor: torch.Tensor,
    dims: Any,
    *,
    out_dtype: torch.dtype,
    accumulator: int,
    vectorised: bool = False,
) -> tuple[int, ...]:
    """What reducing `tensor` over `dims` takes; its cast to the output's type comes first (make_reduction).

    A 16-bit input is reduced to fp32 without a cast. `vectorised`: sum and mean, which read 16-bit inputs eight at a
    time (ReduceSumProdKernel.cu, ReduceMomentKernel.cu; from 2.8, release assumed).
    """
    if not tensor.is_meta or not tensor.numel():
        return ()
    dtype, strides, offset = tensor.dtype, tensor.stride(), tensor.storage_offset()
    cast: tuple[int, ...] = ()
    if dtype != out_dtype and not (dtype in _HALVES and out_dtype is torch.float32):
        cast = (tensor.numel() * out_dtype.itemsize,)
        strides = strides if is_dense(tensor) else _contiguous(tensor.shape)
        dtype, offset = out_dtype, 0
    wide = vectorised and dtype in _HALVES and gpu.rules.torch >= (2, 8)
    job = Job(
        tuple(tensor.shape),
        tuple(strides),
        int(offset) % 4,
        tuple(dims),
        dtype.itemsize,
        out_dtype.itemsize,
        accumulator,
        8 if wide else 4,
        not (dtype in _HALVES and out_dtype is dtype),
    )
    return cast + buffers(job, Card(gpu.card.sm_count, gpu.card.max_threads_per_sm))


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _dims(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _out_dtype(tensor: torch.Tensor, given: torch.dtype | None) -> torch.dtype:
    """Integers and bools are summed up as int64 (ReduceOps.cpp, infer_dtype_from_optional)."""
    if given is not None:
        return given
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    return torch.int64 if whole else tensor.dtype


def opmath(dtype: torch.dtype) -> int:
    """Bytes of a partial sum: fp32 for the 16-bit types, else the type itself."""
    return max(dtype.itemsize, 4)


Rule = Callable[["VirtualGpu", Any, Any], Iterator[int]]


def _adding(dims_at: int | None) -> Rule:
    """Sum, mean, product and norms; `dims_at` is the position of the dimensions among the arguments."""

    def rule(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
        tensor = args[0]
        dims = _dims(args[dims_at]) if dims_at is not None and len(args) > dims_at else ()
        out_dtype = _out_dtype(tensor, kwargs.get("dtype"))
        yield from reduce_buffers(
            gpu, tensor, dims, out_dtype=out_dtype, accumulator=opmath(out_dtype), vectorised=True
        )

    return rule


def _choosing(dims_at: int | None, size: int | None = None, out: torch.dtype | None = None) -> Rule:
    """Extremes and truth: no cast; partial results are of the input's own type, or of `size` bytes."""

    def rule(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
        tensor = args[0]
        dims = _dims(args[dims_at]) if dims_at is not None and len(args) > dims_at else ()
        job = Job(
            tuple(tensor.shape),
            tuple(tensor.stride()),
            int(tensor.storage_offset()) % 4,
            dims,
            tensor.dtype.itemsize,
            (out or tensor.dtype).itemsize,
            size or tensor.dtype.itemsize,
            4,
            True,
        )
        if tensor.is_meta and tensor.numel():
            yield from buffers(job, Card(gpu.card.sm_count, gpu.card.max_threads_per_sm))

    return rule


def _variance(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor = args[0]
    size = WELFORD if tensor.dtype is not torch.float64 else 2 * WELFORD
    dims = _dims(args[1]) if len(args) > 1 else ()
    yield from reduce_buffers(gpu, tensor, dims, out_dtype=tensor.dtype, accumulator=size)


def _logsumexp(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    """ReduceOps.cpp, logsumexp_out_impl: the maxima, then the shifted exponentials, then their sum."""
    tensor, dims = args[0], _dims(args[1])
    if not tensor.is_meta or not tensor.numel() or not tensor.is_floating_point():
        return
    kept = 1
    over = {d % tensor.dim() for d in dims} if dims and tensor.dim() else set(range(tensor.dim()))
    for d, size in enumerate(tensor.shape):
        kept *= 1 if d in over else size
    yield kept * tensor.element_size()
    shifted = torch.empty_like(tensor)
    yield shifted.numel() * shifted.element_size()
    yield from reduce_buffers(
        gpu, shifted, dims, out_dtype=tensor.dtype, accumulator=opmath(tensor.dtype), vectorised=True
    )


SCRATCH: dict[Any, Rule] = {
    **dict.fromkeys((aten.sum.default, aten.mean.default, aten.prod.default), _adding(None)),
    **dict.fromkeys((aten.sum.dim_IntList, aten.mean.dim, aten.prod.dim_int), _adding(1)),
    aten.linalg_vector_norm.default: _adding(2),
    **dict.fromkeys((aten.max.default, aten.min.default), _choosing(None)),
    **dict.fromkeys((aten.amax.default, aten.amin.default), _choosing(1)),
    **dict.fromkeys((aten.max.dim, aten.min.dim, aten.argmax.default, aten.argmin.default), _choosing(1, WITH_INDEX)),
    **dict.fromkeys((aten.any.default, aten.all.default), _choosing(None, 1, torch.bool)),
    **dict.fromkeys((aten.any.dim, aten.all.dim, aten.any.dims, aten.all.dims), _choosing(1, 1, torch.bool)),
    **dict.fromkeys((aten.var.correction, aten.std.correction, aten.var_mean.correction), _variance),
    aten.logsumexp.default: _logsumexp,
}
