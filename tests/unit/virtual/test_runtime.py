"""What `torch.cuda` answers inside the block."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.cuda import (  # imported before the block, as programs do
    Event,
    Stream,
    current_stream,
    device_count,
    get_device_name,
    is_available,
    max_memory_allocated,
    mem_get_info,
    memory_allocated,
    memory_stats,
    synchronize,
)
from torch.cuda.memory import memory_reserved
from torch.utils.data import DataLoader, TensorDataset

import tonnage
from tonnage.errors import CannotRecord
from tonnage.gpus import find_card

KiB, MiB = 1024, 2**20


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("T4") as card:
        yield card


def test_what_the_card_is(gpu):
    assert torch.cuda.is_available()
    assert torch.cuda.is_initialized()
    assert torch.backends.cuda.is_built()
    assert (torch.cuda.device_count(), torch.cuda.current_device()) == (1, 0)
    assert torch.cuda.get_device_name() == torch.cuda.get_device_name("cuda:0") == "Tesla T4"
    assert torch.cuda.get_device_capability() == torch.cuda.get_device_capability(0) == (7, 5)  # CUDA's table
    properties = torch.cuda.get_device_properties("cuda")
    assert (properties.name, properties.major, properties.minor) == ("Tesla T4", 7, 5)
    assert properties.multi_processor_count == 40  # NVIDIA's Turing white paper
    assert properties.total_memory == find_card("T4").total_memory.typical
    assert not torch.cuda.is_bf16_supported(including_emulation=False)


def test_memory_is_the_simulations(gpu):
    """1 MiB and 3 MiB: the first in a 2 MiB segment of the small pool, the second in one of 20 MiB."""
    small = torch.empty(MiB, dtype=torch.uint8, device="cuda")
    large = torch.empty(3 * MiB, dtype=torch.uint8, device="cuda")
    assert torch.cuda.memory_allocated() == torch.cuda.memory_allocated("cuda:0") == gpu.memory_allocated() == 4 * MiB
    assert torch.cuda.memory_reserved() == torch.cuda.memory.memory_reserved(0) == gpu.memory_reserved() == 22 * MiB
    del large
    assert (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()) == (MiB, 4 * MiB)
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == MiB
    torch.cuda.empty_cache()
    assert (torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved()) == (2 * MiB, 22 * MiB)
    free, total = torch.cuda.mem_get_info()
    assert (free, total) == torch.cuda.memory.mem_get_info()
    assert total - free == gpu.process_bytes() == gpu.context_bytes() + 2 * MiB
    assert small.nbytes == MiB


def test_statistics_summary_and_snapshot(gpu):
    kept = torch.empty(1000, device="cuda")
    stats = torch.cuda.memory_stats()
    assert (
        stats["allocated_bytes.all.current"]
        == torch.cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"]["current"]
    )
    assert stats["requested_bytes.all.current"] == kept.nbytes == 4000
    assert stats["allocated_bytes.all.current"] == 4096
    assert "4096 B" in torch.cuda.memory_summary()
    (segment,) = torch.cuda.memory_snapshot()
    assert (segment["total_size"], segment["allocated_size"]) == (2 * MiB, 4096)
    torch.cuda.reset_accumulated_memory_stats()
    assert torch.cuda.memory_stats()["allocated_bytes.all.allocated"] == 0


def test_names_that_were_imported_before_the_block(gpu):
    kept = torch.empty(1000, device="cuda")
    assert is_available()
    assert device_count() == 1
    assert get_device_name() == "Tesla T4"
    assert memory_allocated() == max_memory_allocated() == memory_stats()["allocated_bytes.all.peak"] == 4096
    assert memory_reserved() == 2 * MiB
    assert mem_get_info() == torch.cuda.mem_get_info()
    assert Event(enable_timing=True).query()
    assert isinstance(Stream(), torch.cuda.Stream)
    assert current_stream() == torch.cuda.default_stream()
    synchronize()
    assert kept.is_cuda


@pytest.mark.parametrize("index", [1, "cuda:3"])
def test_another_device_is_refused(gpu, index):
    for call in (
        lambda: torch.cuda.set_device(index),
        lambda: torch.cuda.get_device_properties(index),
        lambda: torch.cuda.memory_allocated(index),
        lambda: torch.cuda.mem_get_info(index),
        lambda: torch.cuda.device(index).__enter__(),
    ):
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            call()
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        torch.cuda.memory_allocated("cpu")


def test_device_contexts(gpu):
    torch.cuda.set_device("cuda:0")
    with torch.cuda.device(0), torch.cuda.device("cuda"), torch.cuda.device_of(torch.ones(1, device="cuda")):
        assert torch.cuda.current_device() == 0


def test_time_does_not_pass(gpu):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    end.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(end) == 0.0


def test_a_stream_has_its_own_part_of_the_cache(gpu):
    """A block freed on one stream is not handed out on another, so a second segment is taken."""
    side = torch.cuda.Stream()
    del_me = torch.empty(1000, device="cuda")
    del del_me
    with torch.cuda.stream(side):
        assert torch.cuda.current_stream() == side != torch.cuda.default_stream()
        kept = torch.empty(1000, device="cuda")
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert gpu.memory_reserved() == 4 * MiB
    kept.record_stream(torch.cuda.current_stream())
    side.wait_stream(torch.cuda.current_stream())


def test_the_pool_has_32_streams(gpu):
    """c10/cuda/CUDAStream.cpp: the 33rd stream is the first again."""
    made = [torch.cuda.Stream() for _ in range(33)]
    assert len(set(made[:32])) == 32
    assert made[32] == made[0]


def test_seeds_and_states(gpu):
    torch.cuda.manual_seed_all(7)
    assert torch.cuda.initial_seed() == 7
    state = torch.cuda.get_rng_state()
    assert (state.dtype, state.shape, state.device.type) == (torch.uint8, (16,), "cpu")  # seed and offset, as CUDA's
    torch.cuda.manual_seed(8)
    torch.cuda.set_rng_state_all([state])
    assert torch.cuda.initial_seed() == 7
    with torch.random.fork_rng():
        torch.manual_seed(1)
    assert torch.cuda.initial_seed() == 7


def test_generators(gpu):
    generator = torch.Generator(device="cuda").manual_seed(3)
    assert generator.device == torch.device("cuda", 0)
    assert isinstance(generator, torch.Generator)
    assert isinstance(torch.Generator(), torch.Generator)
    assert torch.Generator().device.type == "cpu"
    drawn = torch.randn(2, generator=generator, device="cuda")
    again = torch.randn(2, generator=generator.manual_seed(3), device="cuda")
    assert drawn.is_cuda
    assert torch.equal(drawn, again)


def test_autocast_and_scaler(gpu):
    """Warnings are errors here: PyTorch would warn that CUDA is not there."""
    model = nn.Linear(4, 4).cuda()
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        out = model(torch.ones(2, 4, device="cuda"))
    assert out.dtype == torch.float16
    scaler.scale(out.float().sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.is_enabled()
    assert any("finite" in assumption.what for assumption in gpu.recording.assumptions)


def test_pinned_memory(gpu):
    assert torch.ones(3, pin_memory=True).is_pinned()
    assert torch.ones(3).pin_memory().is_pinned()
    assert not torch.ones(3).is_pinned()
    for (batch,) in DataLoader(TensorDataset(torch.arange(4.0)), batch_size=2, pin_memory=True):
        assert batch.is_pinned()
        assert batch.to("cuda", non_blocking=True).sum().item() in (1.0, 5.0)
    assert gpu.max_memory_allocated() <= 4 * 512


def test_the_accelerator_is_the_card(gpu):
    assert torch.accelerator.current_accelerator() == torch.device("cuda")
    assert torch.accelerator.is_available()
    assert torch.accelerator.device_count() == 1
    torch.accelerator.synchronize()
    assert torch.get_device_module() is torch.get_device_module("cuda") is torch.cuda


def test_a_fraction_of_the_card(gpu):
    torch.cuda.set_per_process_memory_fraction(0.25)
    torch.empty(gpu.total_memory // 8, dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.empty(gpu.total_memory // 2, dtype=torch.uint8, device="cuda")


def test_compile_leaves_a_model_as_it_is_and_says_so(gpu):
    model = nn.Linear(2, 2).cuda()
    assert torch.compile(model) is model
    assert torch.compile(dynamic=True)(len) is len
    assert [entry.what for entry in gpu.recording.not_counted] == ["torch.compile"]


def test_what_was_compiled_before_the_block_runs_as_it_is():
    compiled = torch.compile(lambda x: x.relu() + x.device.index)
    with tonnage.virtual_gpu("T4"):
        assert compiled(torch.ones(2, device="cuda")).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["CUDAGraph", "MemPool"])
def test_what_is_not_supported_says_so(gpu, name):
    if not hasattr(torch.cuda, name):
        pytest.skip("not in this PyTorch")
    with pytest.raises(CannotRecord, match=f"torch.cuda.{name} cannot be recorded"):
        getattr(torch.cuda, name)()


def test_sparse_gradients_say_so(gpu):
    embedding = nn.Embedding(10, 4, sparse=True).cuda()
    loss = embedding(torch.tensor([1], device="cuda")).sum()
    with pytest.raises(CannotRecord, match="sparse"):
        loss.backward()


def test_storages(gpu):
    tensor = torch.ones(256, device="cuda")
    storage = tensor.untyped_storage()
    assert storage.data_ptr() == tensor.data_ptr() != torch.ones(256, device="cuda").data_ptr() != 0
    assert tensor[2].data_ptr() - tensor.data_ptr() == 8
    storage.resize_(0)  # as FSDP frees a parameter
    assert gpu.memory_allocated() == 0
    storage.resize_(1024)
    assert gpu.memory_allocated() == 1024
