"""Whatever happens in a block, PyTorch is afterwards what it was before."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.parallel
from torch import nn
from torch.optim import optimizer
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import tonnage
from tonnage.errors import CannotRecord

CARD = torch.device("cuda", 0)
NAMESPACES = (
    torch,
    torch._C,
    torch._C._autograd,
    torch.accelerator,
    torch.autograd,
    torch.autograd.graph,
    torch.backends.cuda,
    torch.backends.cudnn,
    torch.backends.mha,
    torch.cuda,
    torch.cuda.graphs,
    torch.cuda.memory,
    torch.cuda.nvtx,
    torch.cuda.random,
    torch.nn.parallel._functions,
    torch.random,
    torch.serialization,
    torch.version,
    torch.Tensor,
    torch.UntypedStorage,
    torch.cuda.graphs.CUDAGraph,
    torch.cuda.graphs.graph,
    torch.cuda.streams.Event,
    torch.cuda.streams.Stream,
    nn.Module,
    nn.Parameter,
    _device.DeviceContext,
)


def work():
    """A bit of everything that a block touches."""
    model = nn.Linear(4, 4, device="cuda")
    steps = torch.optim.AdamW(model.parameters())
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = torch.utils.checkpoint.checkpoint(model, torch.ones(2, 4, device="cuda"), use_reentrant=False).sum()
    loss.backward()
    steps.step()
    torch.cuda.synchronize()
    torch.Generator("cuda").manual_seed(1)
    return loss.item()


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What PyTorch imports and caches at first use is not ours to take back."""
    with tonnage.virtual_gpu("T4"):
        work()


def state():
    """Every attribute by identity, and the state of the thread."""
    attributes = {(str(space), name): value for space in NAMESPACES for name, value in vars(space).items()}
    return attributes, {
        "function modes": _get_current_function_mode_stack(),
        "dispatch modes": _get_current_dispatch_mode_stack(),
        "included": str(torch._C._dispatch_tls_local_include_set()),
        "excluded": str(torch._C._dispatch_tls_local_exclude_set()),
        "default device": torch.get_default_device(),
        "autocast": (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_grad_enabled()),
        "random": torch.get_rng_state().tolist(),
        "optimizer hooks": (len(optimizer._global_optimizer_pre_hooks), len(optimizer._global_optimizer_post_hooks)),
        "available": torch.cuda.is_available(),
    }


def changed(before, after):
    attributes = before[0].keys() | after[0].keys()
    missing = object()
    names = [k for k in attributes if before[0].get(k, missing) is not after[0].get(k, missing)]
    return [*names, *(k for k in before[1] if before[1][k] != after[1][k])]


@pytest.fixture
def untouched():
    before = state()
    yield
    assert changed(before, state()) == []


def test_a_change_is_seen():
    before = state()
    with tonnage.virtual_gpu("T4"):
        seen = changed(before, state())
    assert "function modes" in seen
    assert "dispatch modes" in seen
    assert "available" in seen or torch.cuda.is_available()
    assert (str(nn.Module), "__call__") in seen


def test_after_a_block(untouched):
    with tonnage.virtual_gpu("T4"):
        work()


def test_after_an_error(untouched):
    with pytest.raises(KeyError), tonnage.virtual_gpu("T4"), torch.autocast("cuda"):
        work()
        raise KeyError


def test_after_an_error_inside_a_module(untouched):
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError

    with pytest.raises(KeyError), tonnage.virtual_gpu("T4"):
        nn.Sequential(nn.Linear(2, 2, device="cuda"), Broken())(torch.ones(1, 2, device="cuda"))


def test_after_running_out_of_memory(untouched):
    with pytest.raises(torch.OutOfMemoryError), tonnage.virtual_gpu("T4", total_memory="1GiB"):
        torch.empty(2**30, device="cuda")


def test_running_out_can_be_survived(untouched):
    with tonnage.virtual_gpu("T4", total_memory="1GiB") as gpu:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2**30, device="cuda")
        work()
        assert gpu.memory_allocated() > 0


def test_a_block_in_a_block_hides_the_outer_one(untouched):
    with tonnage.virtual_gpu("T4") as outer:
        stream = torch.cuda.Stream()
        torch.cuda.set_stream(stream)
        kept = torch.empty(1000, device="cuda")
        with tonnage.virtual_gpu("A100-SXM4-80GB") as inner:
            assert torch.cuda.get_device_name() == "NVIDIA A100-SXM4-80GB"
            other = torch.empty(2000, device="cuda")
            assert (torch.cuda.memory_allocated(), inner.memory_allocated()) == (8192, 8192)
        assert torch.cuda.get_device_name() == "Tesla T4"
        assert torch.cuda.current_stream() == stream
        assert torch.cuda.memory_allocated() == outer.memory_allocated() == 4096
        assert kept.device == CARD
        del kept
        assert outer.memory_allocated() == 0
        work()
    del other
    assert inner.memory_allocated() == 0


def test_an_error_in_the_inner_block(untouched):
    with tonnage.virtual_gpu("T4") as outer:
        with pytest.raises(KeyError), tonnage.virtual_gpu("A100-SXM4-80GB"):
            raise KeyError
        assert torch.ones(1, device="cuda").device == CARD
        assert outer.max_memory_allocated() == 512


def test_blocks_held_by_generators_may_end_out_of_order(untouched):
    def block(name):
        with tonnage.virtual_gpu(name) as gpu:
            yield gpu

    first, second = block("T4"), block("A100-SXM4-80GB")
    next(first)
    inner = next(second)
    first.close()
    assert torch.cuda.get_device_name() == "NVIDIA A100-SXM4-80GB"
    work()
    assert inner.max_memory_allocated() > 0
    second.close()


@pytest.fixture
def card():
    with tonnage.virtual_gpu("T4") as gpu:
        yield gpu


def test_as_a_fixture(card):
    assert torch.ones(1, device="cuda").device == CARD
    assert card.max_memory_allocated() == 512


def in_thread(function):
    """What `function` returned in a thread of its own, or the error it raised."""
    result = []

    def run():
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return result[0]


def peak():
    with tonnage.virtual_gpu("T4") as gpu:
        work()
        return gpu.max_memory_allocated()


def test_two_threads_one_after_the_other(untouched):
    here = peak()
    assert here > 0
    assert in_thread(peak) == in_thread(peak) == here


def test_the_cpu_works_on_while_another_thread_has_the_card(untouched):
    entered, finish = threading.Event(), threading.Event()
    seen = []

    def other():
        with tonnage.virtual_gpu("T4") as gpu:
            kept = torch.ones(1000, device="cuda")
            entered.set()
            assert finish.wait(60)
            seen.append((kept.nbytes, gpu.memory_allocated(), gpu.recording))

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(60)
    try:
        before = torch.get_rng_state()
        model = nn.Linear(4, 2)
        steps = torch.optim.SGD(model.parameters(), 0.5)
        expected = model.weight - 0.5
        model(torch.ones(1, 4)).sum().backward()
        steps.step()
        assert torch.equal(model.weight, expected)
        torch.set_rng_state(before)
        busy = in_thread(peak)
    finally:
        finish.set()
        thread.join(60)
    assert isinstance(busy, CannotRecord)
    assert "another thread" in str(busy)
    ((nbytes, allocated, recording),) = seen
    assert (nbytes, allocated) == (4000, 4096)
    assert [module.type for module in recording.trace.modules] == [""]  # nothing of this thread's model


def test_the_default_device_of_before_is_kept():
    torch.set_default_device("meta")
    try:
        before = state()
        with tonnage.virtual_gpu("T4"):
            assert torch.ones(1).is_meta
            nn.Linear(2, 2, device="cuda")(torch.ones(1, 2, device="cuda")).sum().backward()
        assert changed(before, state()) == []
    finally:
        torch.set_default_device(None)


def test_a_pytorch_built_with_cuda_gets_its_own_functions_back(monkeypatch):
    """Such a build has these names; here they are stood in for."""
    names = ("_cuda_getDeviceCount", "_cuda_memoryStats", "_cuda_init", "_cuda_synchronize", "_cuda_emptyCache")
    theirs = {name: object() for name in names}
    for name, value in theirs.items():
        monkeypatch.setattr(torch._C, name, value, raising=False)
    with tonnage.virtual_gpu("T4"):
        kept = torch.ones(1, device="cuda")
        assert (torch.cuda.memory_allocated(), kept.is_cuda) == (512, True)
        torch.cuda.empty_cache()
    assert all(getattr(torch._C, name) is value for name, value in theirs.items())


def test_an_unknown_card_changes_nothing(untouched):
    with pytest.raises(tonnage.errors.UnknownCard), tonnage.virtual_gpu("no such card"):
        pass
