"""Running out: the message, the retry before it, and what is left of the block afterwards."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import tonnage
from tonnage.virtual.oom import format_size

KiB, MiB, GiB = 2**10, 2**20, 2**30

# A log of PyTorch 2.7 (github.com/kaito-project/kaito/issues/976 has 2.6's), one of 2.10 (huggingface/trl#5197) and one
# of a later file, with the numbers taken out: word for word but for them.
START = (
    r"CUDA out of memory\. Tried to allocate (?P<tried>[^.]+\.\d\d \w+)\. GPU 0 has a total capacity of "
    r"(?P<total>[\d.]+ \w+) of which (?P<free>[\d.]+ \w+) is free\. Including non-PyTorch memory, this process has "
    r"(?P<process>[\d.]+ \w+) memory in use\. Of the allocated memory (?P<allocated>[\d.]+ \w+) is allocated by "
    r"PyTorch, and (?P<cached>[\d.]+ \w+) is reserved by PyTorch but unallocated\. If reserved but unallocated memory "
    r"is large try setting "
)
END = r"=expandable_segments:True to avoid fragmentation\.  See documentation for Memory Management  "
OLD = re.escape("(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)")
NEW = re.escape(
    "(https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf)"
)
TEXTS = {
    "2.6.0": START + "PYTORCH_CUDA_ALLOC_CONF" + END + OLD,
    "2.8.0": START + "PYTORCH_CUDA_ALLOC_CONF" + END + OLD,
    "2.9.1": START + "PYTORCH_ALLOC_CONF" + END + OLD,
    "2.10.0": START + "PYTORCH_ALLOC_CONF" + END + OLD,
    "2.11.0": START + "PYTORCH_CUDA_ALLOC_CONF" + END + NEW,
    "2.13.0": START + "PYTORCH_CUDA_ALLOC_CONF" + END + NEW,
}


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (1024, "1024 bytes"),
        (1025, "1.00 KiB"),
        (MiB, "1024.00 KiB"),
        (MiB + 1, "1.00 MiB"),
        (GiB, "1024.00 MiB"),
        (3 * GiB // 2, "1.50 GiB"),
    ],
)
def test_sizes_are_written_as_the_allocator_writes_them(nbytes, text):
    assert format_size(nbytes) == text


@pytest.mark.parametrize("version", TEXTS)
def test_the_message_is_that_of_the_version(version):
    with tonnage.virtual_gpu("RTX 3060", total_memory="4GiB", torch_version=version):
        with pytest.raises(torch.OutOfMemoryError) as caught:
            torch.empty(8 * GiB, dtype=torch.uint8, device="cuda")
    assert re.fullmatch(TEXTS[version], str(caught.value))


def test_the_numbers_are_those_of_the_moment():
    with tonnage.virtual_gpu("RTX 3060", total_memory="4GiB") as gpu:
        kept = torch.empty(1 * GiB, dtype=torch.uint8, device="cuda")
        small = torch.empty(100, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.OutOfMemoryError) as caught:
            torch.empty(4 * GiB - MiB, dtype=torch.uint8, device="cuda")
        said = re.match(START, str(caught.value))
        assert said is not None
        assert said["tried"] == "4.00 GiB"  # a segment is rounded up to 2 MiB
        assert said["total"] == "4.00 GiB"
        assert said["allocated"] == "1.00 GiB"
        assert said["cached"] == "2.00 MiB"  # the small segment, less the 512 bytes in use
        assert said["process"] == format_size(gpu.context_bytes() + GiB + 2 * MiB)
        assert said["free"] == format_size(3 * GiB - 2 * MiB - gpu.context_bytes())
        del kept, small


def test_the_cache_is_given_back_before_it_fails():
    with tonnage.virtual_gpu("RTX 3060", total_memory="4GiB"):
        for _ in range(2):
            torch.empty(2 * GiB, dtype=torch.uint8, device="cuda")
        assert torch.cuda.memory_reserved() == 2 * GiB
        torch.empty(3 * GiB, dtype=torch.uint8, device="cuda")
        assert torch.cuda.memory_reserved() == 3 * GiB
        assert torch.cuda.memory_stats()["num_alloc_retries"] == 1
        assert torch.cuda.memory_stats()["num_ooms"] == 0


def test_a_handler_can_try_something_smaller():
    with tonnage.virtual_gpu("RTX 3060", total_memory="2GiB") as gpu:
        before = torch.cuda.memory_allocated()
        try:
            torch.empty(GiB, dtype=torch.uint8, device="cuda") + torch.empty(GiB, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            assert torch.cuda.memory_allocated() == before
            smaller = torch.empty(GiB // 2, dtype=torch.uint8, device="cuda")
            assert torch.cuda.memory_allocated() == GiB // 2
        assert smaller.numel() == GiB // 2
        gpu.recording.ledger.check()


def test_scratch_of_a_failed_call_is_given_back():
    """A sum of 8192 x 768 wants 48 MiB of staging, its output is there already."""
    with tonnage.virtual_gpu("A100", total_memory="1GiB") as gpu:
        grad = torch.zeros(8192, 768, device="cuda")
        filler = torch.empty(gpu.free_bytes() - 30 * MiB, dtype=torch.uint8, device="cuda")
        before = torch.cuda.memory_allocated()
        with pytest.raises(torch.OutOfMemoryError):
            grad.sum(0)
        assert torch.cuda.memory_allocated() == before
        del filler


def test_backward_may_run_out_and_the_block_goes_on():
    with tonnage.virtual_gpu("RTX 3060", total_memory="1GiB") as gpu:
        layers = nn.Sequential(*(nn.Linear(4096, 4096, device="cuda") for _ in range(4)))
        weights = torch.cuda.memory_allocated()
        x = torch.zeros(512, 4096, device="cuda")
        loss = layers(x).sum()
        filler = torch.empty(gpu.free_bytes() - 100 * MiB, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            loss.backward()
        del loss, filler, x
        layers.zero_grad()
        torch._C._cuda_clearCublasWorkspaces()
        assert torch.cuda.memory_allocated() == weights
        with torch.no_grad():
            layers(torch.zeros(2, 4096, device="cuda"))
    gpu.recording.ledger.check()
