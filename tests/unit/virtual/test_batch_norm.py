"""Batch norm: cuDNN's or PyTorch's own, and the staging buffers of the latter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.ledger import Category


def normalise(shape, *, dtype=torch.float32, format=None, training=True, backward=False, layer=None):
    """The card, and the workspaces of a forward pass or of a backward one."""
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        layer = (layer or nn.BatchNorm2d(shape[1])).to("cuda", dtype).train(training)
        x = torch.empty(shape, device="cuda", dtype=dtype)
        x = (x if format is None else x.to(memory_format=format)).requires_grad_()
        start = len(gpu.ledger.sizes)
        y = layer(x)
        if backward:
            gradient = torch.empty_like(y)
            start = len(gpu.ledger.sizes)
            y.backward(gradient)
    ledger = gpu.recording.ledger
    found = [ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.WORKSPACE]
    return gpu, found


IMAGES = (32, 64, 56, 56)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_cudnn_takes_nothing_for_nchw(backward) -> None:
    gpu, taken = normalise(IMAGES, backward=backward)
    assert taken == []
    assert gpu.recording.not_counted == []
    assert gpu.libraries_bytes() > 0


def test_what_cudnn_takes_for_channels_last_is_listed() -> None:
    gpu, taken = normalise(IMAGES, format=torch.channels_last)
    assert taken == []
    assert [m.what for m in gpu.recording.not_counted] == ["cuDNN's batch norm workspaces in channels-last"]


def test_bfloat16_channels_last_meets_in_a_staging_buffer() -> None:
    """100,352 rows of 64 channels, 32 x 16 threads of 16 rows each: 392 blocks of rows, at most 128; 2 of channels.

    Mean, variance and count of each channel are kept as 4 numbers in fp32; backward has 2 sums, and their totals.
    """
    bf16 = {"dtype": torch.bfloat16, "format": torch.channels_last}
    assert normalise(IMAGES, **bf16)[1] == [4 * 64 * 128 * 4, 4 * 2]
    assert normalise(IMAGES, **bf16, backward=True)[1] == [64 * 4, 64 * 4, 2 * 64 * 128 * 4, 4 * 2]


def test_few_rows_do_not_meet() -> None:
    """16 images of 49 pixels are 784 rows, in 4 blocks of 256: not worth a second pass below 8."""
    assert normalise((16, 64, 7, 7), dtype=torch.bfloat16, format=torch.channels_last)[1] == []


def test_two_dimensions_are_rows() -> None:
    """4096 rows of 256: 32 x 16 threads, 16 blocks of 256 rows, 8 of 32 channels."""
    assert normalise((4096, 256), layer=nn.BatchNorm1d(256))[1] == [4 * 256 * 16 * 4, 4 * 8]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"dtype": torch.bfloat16}, id="NCHW"),
        pytest.param({"dtype": torch.bfloat16, "format": torch.channels_last, "training": False}, id="eval"),
        pytest.param({"layer": nn.BatchNorm2d(64, affine=False)}, id="without weights"),
    ],
)
def test_pytorch_s_other_kernels_take_nothing(options) -> None:
    gpu, taken = normalise(IMAGES, **options)
    assert taken == []
    assert gpu.libraries_bytes() == 0


def test_a_gradient_that_lies_otherwise_is_copied() -> None:
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        layer = nn.BatchNorm2d(64).cuda()
        x = torch.empty(IMAGES, device="cuda", requires_grad=True)
        y = layer(x)
        gradient = torch.empty(IMAGES, device="cuda").to(memory_format=torch.channels_last)
        start = len(gpu.ledger.sizes)
        y.backward(gradient)
    ledger = gpu.ledger
    taken = [ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.WORKSPACE]
    assert taken == [x.numel() * 4]
