"""Normalisation: one kernel or many, and partial sums."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tonnage
from tonnage.ledger import Category

MiB = 2**20


def names(gpu) -> list[str]:
    return [op.name for op in gpu.recording.trace.ops]


def workspaces(gpu, start: int) -> list[int]:
    ledger = gpu.recording.ledger
    return [ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.WORKSPACE]


def rms_norm(version, *, context=torch.enable_grad, dtype=torch.bfloat16):
    with tonnage.virtual_gpu("A100", torch_version=version) as gpu, context():
        x = torch.zeros(4, 8, 64, device="cuda", dtype=dtype, requires_grad=True)
        weight = torch.ones(64, device="cuda", dtype=dtype, requires_grad=True)
        start = len(gpu.recording.ledger.sizes)
        out = F.rms_norm(x, (64,), weight)
        made = list(gpu.recording.ledger.sizes)[start:]
        kept = [gpu.recording.ledger.sizes[i] for i in gpu.recording.ledger.live() if i >= start]
        if out.requires_grad:
            out.backward(torch.empty_like(out))
    return gpu, made, kept


def test_rms_norm_is_one_kernel_since_2_9():
    """The output, and the scale of 32 rows in fp32."""
    gpu, made, _ = rms_norm("2.9.1")

    assert made == [4 * 8 * 64 * 2, 32 * 4]
    assert "aten._fused_rms_norm.default" in names(gpu)
    assert "aten._fused_rms_norm_backward.default" in names(gpu)


def test_rms_norm_was_a_chain_before():
    """bf16 is computed in fp32: the cast, its squares, their mean and its root, both products; then bf16."""
    gpu, made, _ = rms_norm("2.8.0")

    wide, rows = 4 * 8 * 64 * 4, 32 * 4
    assert made == [wide, wide, rows, rows, wide, wide, wide // 2]
    assert "aten._fused_rms_norm.default" not in names(gpu)


def test_inference_mode_makes_no_difference():
    _, made, kept = rms_norm("2.9.1", context=torch.inference_mode)
    assert made == [4 * 8 * 64 * 2, 32 * 4]
    assert kept == [4 * 8 * 64 * 2]
    _, made, _ = rms_norm("2.8.0", context=torch.inference_mode)
    assert len(made) == 7


def test_outside_of_the_block_meta_is_as_it_was():
    rms_norm("2.13.0")

    assert not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_rms_norm", "Meta")


def layer_norm_backward(rows: int, columns: int, version: str = "2.13.0") -> list[int]:
    with tonnage.virtual_gpu("A100", torch_version=version) as gpu:
        x = torch.zeros(rows, columns, device="cuda", requires_grad=True)
        norm = torch.nn.LayerNorm(columns, device="cuda")
        out = norm(x)
        start = len(gpu.recording.ledger.sizes)
        out.backward(torch.empty_like(out))
        return workspaces(gpu, start)


def test_layer_norm_of_few_or_wide_rows_needs_nothing():
    assert layer_norm_backward(65536, 256) == []
    assert layer_norm_backward(65537, 1728) == []  # 54 blocks of 32 columns are half of 108 SMs


def test_layer_norm_of_very_many_rows_sums_blocks_of_32():
    """65,568 rows are 2,049 blocks: a partial of 2,049 x 256 for weight and for bias, each summed up by columns with
    129 blocks of 16 rows a thread on... 2,049 / 4 values a thread: 33 blocks of 128 columns."""
    partial = 2049 * 256 * 4
    staged = 4 * 256 * 33 * 128

    found = layer_norm_backward(65568, 256)

    assert found == [partial, partial, 1024, staged, 8, 1024, staged, 8]


def test_layer_norm_had_no_partial_sums_before_2_8():
    assert layer_norm_backward(65568, 256, "2.7.1") == []
    assert layer_norm_backward(65568, 256, "2.8.0")


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_a_permuted_input_is_copied_forth_and_back(norm):
    """ConvNeXt norms channels last: forward copies the input first; backward that and, if it is permuted, its gradient,
    and makes a gradient in order."""
    each = 2 * 16 * 16 * 64 * 4
    with tonnage.virtual_gpu("A100", torch_version="2.13.0") as gpu:
        images = torch.zeros(2, 64, 16, 16, device="cuda", requires_grad=True)
        weight = torch.zeros(64, device="cuda")
        start = len(gpu.recording.ledger.sizes)
        out = getattr(F, norm)(images.permute(0, 2, 3, 1), (64,), weight)
        assert list(gpu.recording.ledger.sizes[start:]).count(each) == 2
        assert out.is_contiguous()
        grad = torch.zeros_like(images).permute(0, 2, 3, 1)
        start = len(gpu.recording.ledger.sizes)
        torch.autograd.grad(out, images, grad)
        assert list(gpu.recording.ledger.sizes[start:]).count(each) == 3


def test_group_norm_keeps_a_scale_and_a_shift_for_each_channel():
    """2 images of 6 channels in 3 groups: forward 2 x 12 fp32; backward 2 x 12, c1 of 12, and 2 x 6."""
    with tonnage.virtual_gpu("A100") as gpu:
        x = torch.zeros(2, 6, 4, 4, device="cuda", requires_grad=True)
        norm = torch.nn.GroupNorm(3, 6, device="cuda")
        out = norm(x)
        assert workspaces(gpu, 0) == [48, 48]
        start = len(gpu.recording.ledger.sizes)
        out.backward(torch.empty_like(out))
        assert workspaces(gpu, start) == [48, 48, 48, 24, 24]
