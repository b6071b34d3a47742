"""Convolutions: copies into channels-last, what is copied where, and how the results lie."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tonnage
from tonnage.ledger import Category

MiB = 2**20
INPUT, WEIGHT, OUTPUT = (2, 16, 32, 32), (8, 16, 3, 3), (2, 8, 32, 32)
X, W, Y = 2 * 16 * 32 * 32 * 4, 8 * 16 * 3 * 3 * 4, 2 * 8 * 32 * 32 * 4


def workspaces(gpu, start: int) -> list[int]:
    ledger = gpu.recording.ledger
    return [ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.WORKSPACE]


def not_counted(gpu) -> list[str]:
    return [missing.what for missing in gpu.recording.not_counted]


def convolve(
    card: str = "RTX 3060",
    *,
    input: tuple[int, ...] = INPUT,
    weight: tuple[int, ...] = WEIGHT,
    dtype: torch.dtype = torch.float32,
    format: torch.memory_format = torch.contiguous_format,
    backward: bool = False,
    **options: int,
):
    """The card, and the workspaces of a forward pass or of a backward one."""
    with tonnage.virtual_gpu(card, torch_version="2.6.0") as gpu:
        x = torch.empty(input, dtype=dtype, device="cuda").to(memory_format=format).requires_grad_()
        w = torch.empty(weight, dtype=dtype, device="cuda").to(memory_format=format).requires_grad_()
        start = len(gpu.ledger.sizes)
        y = F.conv2d(x, w, padding=weight[-1] // 2, **options)
        if backward:
            gradient = torch.empty_like(y)
            start = len(gpu.ledger.sizes)
            y.backward(gradient)
    return gpu, workspaces(gpu, start)


def test_tf32_copies_input_weight_and_output_for_the_length_of_a_pass() -> None:
    gpu, taken = convolve()
    assert taken == [X + W + Y]
    assert [gpu.ledger.sizes[i] for i in gpu.ledger.live()] == []


def test_each_gradient_is_a_pass_of_its_own() -> None:
    _, taken = convolve(backward=True)
    assert taken == [X + W + Y] * 2


@pytest.mark.parametrize(
    ("card", "dtype", "nbytes"),
    [
        pytest.param("T4", torch.float32, 0, id="no TF32 before 8.0"),
        pytest.param("T4", torch.float16, (X + W + Y) // 2, id="fp16 on Turing"),
        pytest.param("P100", torch.float16, 0, id="no tensor cores"),
        pytest.param("T4", torch.bfloat16, 0, id="bf16 before 8.0"),
        pytest.param("A100", torch.bfloat16, (X + W + Y) // 2, id="bf16 on Ampere"),
        pytest.param("A100", torch.float64, 0, id="fp64"),
    ],
)
def test_only_tensor_cores_want_copies(card, dtype, nbytes) -> None:
    assert convolve(card, dtype=dtype)[1] == [nbytes] * bool(nbytes)
    assert convolve(card, dtype=dtype, backward=True)[1] == [nbytes, nbytes] * bool(nbytes)


def test_without_tf32_nothing_is_copied(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert convolve()[1] == []


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param({"format": torch.channels_last}, id="channels last"),
        pytest.param({"input": (2, 3, 32, 32), "weight": (8, 3, 3, 3)}, id="three channels"),
        pytest.param({"weight": (16, 4, 3, 3), "groups": 4}, id="grouped"),
        pytest.param({"weight": (16, 1, 3, 3), "groups": 16}, id="depthwise"),
        pytest.param({"input": (400, 16, 4, 4), "weight": (8, 16, 1, 1)}, id="1x1 of many images"),
    ],
)
def test_direct_kernels_copy_nothing(shapes, backward) -> None:
    assert convolve(**shapes, backward=backward)[1] == []


def test_a_pointwise_weight_gradient_of_few_images_is_summed_in_copies() -> None:
    shapes = {"input": (384, 16, 4, 4), "weight": (8, 16, 1, 1)}
    copies = (384 * 16 * 16 + 8 * 16 + 384 * 8 * 16) * 4
    assert convolve(**shapes)[1] == []
    assert convolve(**shapes, backward=True)[1] == [copies]


def test_an_operand_that_lies_otherwise_is_made_contiguous() -> None:
    """cudnn_convolution takes the format of either operand, and copies the other into it."""
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0") as gpu:
        x = torch.empty(INPUT, device="cuda").to(memory_format=torch.channels_last)
        w = torch.empty(WEIGHT, device="cuda")
        start = len(gpu.ledger.sizes)
        F.conv2d(x, w, padding=1)
    assert workspaces(gpu, start) == [W]


def test_channels_last_stays_through_both_directions() -> None:
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0"):
        x = torch.empty(INPUT, device="cuda").to(memory_format=torch.channels_last).requires_grad_()
        w = torch.empty(WEIGHT, device="cuda", requires_grad=True)
        y = F.conv2d(x, w, padding=1)
        given = torch.autograd.grad(y, (x, w), torch.empty_like(y))
        plain = F.conv2d(x.detach().contiguous(), w, padding=1)
        by_weight = F.conv2d(x.detach().contiguous(), w.detach().to(memory_format=torch.channels_last), padding=1)
    assert y.stride() == by_weight.stride() == (8 * 32 * 32, 1, 32 * 8, 8)
    assert [g.stride() for g in given] == [(16 * 32 * 32, 1, 32 * 16, 16), (16 * 9, 1, 3 * 16, 16)]
    assert plain.stride() == (8 * 32 * 32, 32 * 32, 32, 1)


def test_sizes_of_one_do_not_make_a_tensor_channels_last() -> None:
    """c10/core/MemoryFormat.h: a depthwise weight and a single pixel are ambiguous, and count as contiguous."""
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0"):
        x = torch.empty(2, 16, 8, 8, device="cuda")
        y = F.conv2d(x, torch.empty(16, 1, 3, 3, device="cuda"), groups=16)
    assert y.stride() == (16 * 36, 36, 6, 1)


def test_the_bias_gradient_is_a_sum_with_its_staging_buffer() -> None:
    """8 x 32 x 32 rows of 768 channels on an A100: 48 MiB and 6 semaphores, as for a linear layer's 8192 rows."""
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        x = torch.empty(8, 16, 32, 32, device="cuda").to(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(16, 768, 1, device="cuda")
        y = layer(x)
        gradient = torch.empty_like(y)
        start = len(gpu.ledger.sizes)
        y.backward(gradient)
    assert workspaces(gpu, start) == [48 * MiB, 24]


def test_a_workspace_that_does_not_fit_is_done_without() -> None:
    """Conv_v8.cpp: the plan is given up, and the next one runs. Input and output are 16 MiB, so are their copies."""
    before = convolve()[0]
    room = (16 + 2 + 16 + 31) * MiB + before.context_bytes() + before.libraries_bytes()
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0", total_memory=room) as gpu:
        x, w = torch.empty(64, 16, 64, 64, device="cuda"), torch.empty(16, 16, 3, 3, device="cuda")
        F.conv2d(x, w, padding=1)
    assert "a convolution without its workspace" in not_counted(gpu)
    assert 32 * MiB < gpu.max_memory_allocated() < 33 * MiB


def test_what_the_library_may_take_beyond_is_listed(monkeypatch) -> None:
    beyond, trials = "cuDNN's convolution workspaces beyond copies", "cudnn.benchmark's trials"
    gpu, _ = convolve(backward=True)
    assert [(m.what, m.times) for m in gpu.recording.not_counted] == [(beyond, 2)], "forward and backward"
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert not_counted(convolve()[0]) == [beyond, trials]


def test_benchmarking_empties_the_cache_at_the_first_pass_of_each_problem() -> None:
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0", cudnn_benchmark=True) as gpu:
        x, w = torch.empty(INPUT, device="cuda"), torch.empty(WEIGHT, device="cuda")
        reserved = []
        for given in (x, x, x[:1]):
            torch.empty(30 * MiB, dtype=torch.uint8, device="cuda")
            F.conv2d(given, w, padding=1)
            reserved.append(gpu.memory_reserved())
    assert reserved == [2 * MiB, 32 * MiB, 2 * MiB]


def test_pytorch_s_own_depthwise_kernel_has_nothing_to_list() -> None:
    assert not_counted(convolve(weight=(16, 1, 3, 3), groups=16)[0]) == []


def test_libraries_are_in_the_process_once_they_are_used() -> None:
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0") as gpu:
        x = torch.empty(4, 4, 8, 8, device="cuda")
        assert gpu.libraries_bytes() == 0
        assert gpu.process_bytes() == gpu.context_bytes() + gpu.memory_reserved()
        free = torch.cuda.mem_get_info()[0] + gpu.memory_reserved()
        x.flatten(1) @ torch.empty(256, 4, device="cuda")
        products = gpu.libraries_bytes()
        for _ in range(2):
            F.conv2d(x, torch.empty(4, 4, 3, 3, device="cuda"))
        assert 0 < products < gpu.libraries_bytes() < gpu.recording.environment.libraries_bytes_high
        assert gpu.process_bytes() == gpu.context_bytes() + gpu.libraries_bytes() + gpu.memory_reserved()
        assert free - gpu.libraries_bytes() == torch.cuda.mem_get_info()[0] + gpu.memory_reserved()
    assert gpu.recording.environment.libraries_bytes == gpu.libraries_bytes()


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [((2, 3), (1, 0), (1, 2)), ((2,), (1,), (1,))], ids=["uneven", "one for all"]
)
def test_the_output_that_is_copied_has_its_size(stride, padding, dilation) -> None:
    with tonnage.virtual_gpu("RTX 3060", torch_version="2.6.0") as gpu:
        x, w = torch.empty(4, 16, 31, 40, device="cuda"), torch.empty(24, 16, 3, 5, device="cuda")
        start = len(gpu.ledger.sizes)
        y = torch.convolution(x, w, None, stride, padding, dilation, False, (0,), 1)
    assert workspaces(gpu, start) == [x.nbytes + w.nbytes + y.nbytes]
