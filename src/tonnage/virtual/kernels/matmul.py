"""Matrix products: cuBLAS's workspaces, and operands that BLAS cannot take as they lie.

Each thread's cuBLAS handle takes a workspace from the caching allocator, for each stream, at its first product, and
keeps it (ATen/cuda/CublasHandlePool.cpp, getCurrentCUDABlasHandle). Backward runs in a thread of its own, so a
training step has two. A product's output is allocated first, then copies of operands, then the workspace
(ATen/native/cuda/Blas.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.layout import is_dense

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
Rule = Callable[["VirtualGpu", Any, Any], Iterator[int]]
_LT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def blas_takes(matrix: torch.Tensor) -> bool:
    """Whether BLAS can read a matrix, or a batch of them, where it lies.

    Row- or column-major with rows that do not overlap (prepare_matrix_for_cublas and prepare_batch_matrix_for_cublas
    in Blas.cpp); gradients that were expanded from one number are the common case of the contrary.
    """
    rows, columns = matrix.shape[-2:]
    row_stride, column_stride = matrix.stride()[-2:]
    if column_stride == 1 and row_stride >= max(1, columns):
        return True
    if row_stride == 1 and column_stride >= max(1, rows):
        return True
    if matrix.dim() == 2:
        return is_dense(matrix)
    return matrix.is_contiguous() and row_stride != 0 and column_stride != 0


def _copies(*operands: torch.Tensor) -> Iterator[int]:
    for operand in operands:
        if not blas_takes(operand):
            yield operand.numel() * operand.element_size()


def _product(first: int) -> Rule:
    """The rule for an operator whose two matrices are its arguments `first` and `first + 1`."""

    def rule(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
        left, right = args[first : first + 2]
        if left.is_meta and left.numel() and right.numel():
            yield from _copies(left, right)
            gpu.blas_workspace()

    return rule


def _addmm(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    bias, left, right = args[:3]
    if left.is_meta and left.numel() and right.numel():
        yield from _copies(left, right)
        if kwargs.get("beta", 1) == 1 and _fuses_bias(gpu, bias, left, right):
            yield from gpu.blaslt_workspace()
        gpu.blas_workspace()


def _fuses_bias(gpu: VirtualGpu, bias: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether cuBLASLt adds the bias in the product (Blas.cpp, isInputCompliesAddmmCudaLt)."""
    sizes = right.shape if gpu.rules.fuses_bias_of_one_row else (*left.shape, *right.shape)
    return (
        bias.dim() == 1
        and bias.is_contiguous()
        and bias.shape[0] == right.shape[1]
        and left.dtype in _LT_DTYPES
        and min(sizes) > 1
    )


def _vector(first: int) -> Rule:
    """A matrix by a vector: `addmv_out_cuda` makes dense what gemv cannot take."""

    def rule(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
        matrix, vector = args[first : first + 2]
        if matrix.is_meta and matrix.numel():
            if vector.stride(0) == 0:
                yield vector.numel() * vector.element_size()
            if not _gemv_takes(matrix):
                yield matrix.numel() * matrix.element_size()
            gpu.blas_workspace()

    return rule


def _gemv_takes(matrix: torch.Tensor) -> bool:
    (rows, columns), (row_stride, column_stride) = matrix.shape, matrix.stride()
    return (row_stride == 1 and column_stride >= max(1, rows)) or (column_stride == 1 and row_stride >= max(1, columns))


def _dot(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    if args[0].is_meta:
        gpu.blas_workspace()
    yield from ()


SCRATCH: dict[Any, Rule] = {
    aten.mm.default: _product(0),
    aten.bmm.default: _product(0),
    aten.baddbmm.default: _product(1),
    aten.baddbmm_.default: _product(1),
    aten.addmm.default: _addmm,
    aten.addmm_.default: _product(1),
    aten._addmm_activation.default: _addmm,
    aten.mv.default: _vector(0),
    aten.addmv.default: _vector(1),
    aten.addmv_.default: _vector(1),
    aten.dot.default: _dot,
    aten.vdot.default: _dot,
}
