"""Convolutions: the copies that PyTorch makes first, and cuDNN's workspaces.

cuDNN takes a workspace for the length of each pass (ATen/native/cudnn/Conv_v8.cpp, run_conv_plan); its size belongs to
the plan that the library's heuristics choose. Counted are the copies that published profiles show in it:

* Tensor cores read and write channels last. Given NCHW tensors, a pass copies the two that it reads, and the one that
  it writes unless the kernel can write NCHW. ResNet-18 forward in fp32 (RTX 50 laptop, cuDNN 9.10): 16 of its 20
  convolutions on tensor cores, 32 copies in, 12 out. A VGG of 13 layers: 12, 24 and 10. AlexNet's training step (A100,
  cuDNN 8): 9 passes over 3 of its layers, 18 and 8. A 3x3 convolution in fp16 (V100): 1, 2 and 1.
* The others of those profiles copy nothing: inputs of fewer than 4 channels in fp32 (implicit_convolve_sgemm), 1x1
  convolutions (a product of matrices as they lie, or implicit_convolve_sgemm), grouped ones (direct kernels), and
  depthwise ones, for which PyTorch has its own kernels unless they are channels last or in fp16.
* The weight's gradient of a 1x1 convolution sums over the images. Published peaks of MobileNetV2 in TF32 (RTX 3060 and
  4060, cuDNN 9.1) leave room for the copies of 251 and 317 images, and none for those of 415 and more.
* bfloat16 below compute capability 8.0, which has no tensor cores for it: a published peak of ResNet-50 (T4) leaves no
  room for copies.

Anything beyond that (split sums, Winograd, FFT, what `cudnn.benchmark` tries) is listed as not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tonnage.ledger import Category
from tonnage.virtual.kernels.reduction import reduce_buffers
from tonnage.virtual.layout import convolves_channels_last

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu

aten = torch.ops.aten
FEW_IMAGES = 384
"""Up to so many, a 1x1 convolution's weight gradient is taken to be summed in channels-last copies.

Assumed: between 317 images, where published peaks have the copies, and 415, where they have none. By which
rule the library chooses is not known; without them small batches would come out a tenth too low."""
LEAST_CHANNELS = 4
"""TF32 kernels read so many channels at once (`align4`)."""

_BEYOND = "the library chooses a plan; counted are copies into channels-last, others may take more"
_TRIALS = "the first call of each shape tries plans in one buffer of their largest workspace, then empties the cache"


class Convolution(NamedTuple):
    """What the kernel of a convolution depends on."""

    input: Tensor
    weight: Tensor
    transposed: bool
    groups: int
    channels_last: bool

    @classmethod
    def of(cls, tensor: Tensor, weight: Tensor, transposed: bool, groups: int) -> Convolution:
        return cls(tensor, weight, transposed, groups, convolves_channels_last(tensor, weight))

    @property
    def format(self) -> torch.memory_format:
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if self.input.dim() == 4 else torch.channels_last_3d

    @property
    def of_pytorch(self) -> bool:
        """Whether PyTorch's own depthwise kernel runs (Convolution.cpp, is_depthwise and use_cudnn_depthwise).

        In fp16 cuDNN's may run, by a table of shapes; neither takes a workspace.
        """
        depthwise = self.groups > 1 and self.input.shape[1] == self.groups and not self.transposed
        return depthwise and self.weight.shape[0] % self.groups == 0 and not self.channels_last

    @property
    def pointwise(self) -> bool:
        return prod(self.weight.shape[2:]) == 1


def on_tensor_cores(gpu: VirtualGpu, dtype: torch.dtype) -> bool:
    """fp32 as TF32 from 8.0 on (PyTorch, docs/source/notes/cuda.rst), fp16 from 7.0, bfloat16 from 8.0."""
    capability = gpu.card.compute_capability
    if dtype is torch.float32:
        return capability >= (8, 0) and torch.backends.cudnn.allow_tf32
    return (dtype is torch.float16 and capability >= (7, 0)) or (dtype is torch.bfloat16 and capability >= (8, 0))


def copies(gpu: VirtualGpu, conv: Convolution, *, gradient_of: str = "") -> bool:
    """Whether a pass copies its three tensors into channels-last and back."""
    if conv.channels_last or conv.groups > 1 or not on_tensor_cores(gpu, conv.input.dtype):
        return False
    if conv.input.dtype is torch.float32 and min(conv.weight.shape[:2]) < LEAST_CHANNELS:
        return False
    return not conv.pointwise or (gradient_of == "weight" and conv.input.shape[0] <= FEW_IMAGES)


def _run(gpu: VirtualGpu, nbytes: int) -> None:
    """Takes a workspace and gives it back. Where it does not fit, the next plan runs (Conv_v8.cpp, try_plans)."""
    if not nbytes:
        return
    try:
        gpu.free(gpu.allocate(nbytes, Category.WORKSPACE))
    except torch.OutOfMemoryError:
        gpu.not_counted("a convolution without its workspace", "it did not fit; cuDNN takes a slower plan")


def _note(gpu: VirtualGpu) -> None:
    gpu.load("cudnn")
    gpu.not_counted("cuDNN's convolution workspaces beyond copies", _BEYOND)


def _pass(gpu: VirtualGpu, nbytes: int, name: str, tensor: Tensor, weight: Tensor, *how: Any) -> None:
    """One pass with its workspace; what follows the bytes is what cuDNN's choice of a plan is remembered by.

    Conv_v8.cpp, run_single_conv: with cudnn.benchmark the first pass of each problem tries all plans in one buffer,
    and the cache is emptied before the best one runs. The buffer has room for the copies at least.
    """
    if gpu.cudnn_benchmark or torch.backends.cudnn.benchmark:
        problem = (name, _layout(tensor), _layout(weight), *map(str, how))
        if problem not in gpu.benchmarked:
            gpu.benchmarked.add(problem)
            gpu.not_counted("cudnn.benchmark's trials", _TRIALS)
            _run(gpu, nbytes)
            gpu.empty_cache()
    _run(gpu, nbytes)


def _layout(tensor: Tensor) -> Any:
    return tensor.shape, tensor.stride(), tensor.dtype


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _output_bytes(args: Any) -> int:
    tensor, weight, _, stride, padding, dilation, transposed = args[:7]
    if transposed or {len(stride), len(padding), len(dilation)} != {tensor.dim() - 2}:
        return _bytes(aten.convolution.default(*args))
    sizes = zip(tensor.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    pixels = prod((size + 2 * pad - reach * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, reach in sizes)
    return int(tensor.shape[0] * weight.shape[0] * pixels * tensor.element_size())


def _contiguous(format: torch.memory_format, *tensors: Tensor) -> Iterator[int]:
    """cudnn_convolution and its gradients make their operands contiguous in the format of the convolution."""
    for tensor in tensors:
        if not tensor.is_contiguous(memory_format=format):
            yield _bytes(tensor)


def _forward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    tensor, weight, _, _, _, _, transposed, _, groups = args
    if not tensor.is_meta or not tensor.numel():
        return
    conv = Convolution.of(tensor, weight, transposed, groups)
    yield from _contiguous(conv.format, tensor, weight)
    if not conv.of_pytorch:
        _note(gpu)
        nbytes = _bytes(tensor, weight) + _output_bytes(args) if copies(gpu, conv) else 0
        _pass(gpu, nbytes, "forward", tensor, weight, *args[3:])


def _backward(gpu: VirtualGpu, args: Any, kwargs: Any) -> Iterator[int]:
    gradient, tensor, weight, _, _, _, _, transposed, _, groups, wanted = args
    if not tensor.is_meta or not tensor.numel():
        return
    conv = Convolution.of(tensor, weight, transposed, groups)
    yield from _contiguous(conv.format, gradient, tensor, weight)
    if not conv.of_pytorch:
        _note(gpu)
        for name, asked in zip(("input", "weight"), wanted[:2], strict=True):
            if asked:
                nbytes = _bytes(gradient, tensor, weight) if copies(gpu, conv, gradient_of=name) else 0
                _pass(gpu, nbytes, name, tensor, weight, *args[4:10])
    if wanted[2]:
        yield from _bias_gradient(gpu, gradient)


def _bias_gradient(gpu: VirtualGpu, gradient: Tensor) -> Iterator[int]:
    """`grad_output.sum` over all but the channels (Convolution.cpp, convolution_backward)."""
    dims = (0, *range(2, gradient.dim()))
    yield from reduce_buffers(
        gpu, gradient, dims, out_dtype=gradient.dtype, accumulator=max(gradient.element_size(), 4), vectorised=True
    )


SCRATCH = {aten.convolution.default: _forward, aten.convolution_backward.default: _backward}
