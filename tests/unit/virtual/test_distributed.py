"""DistributedDataParallel on one rank: buckets that hold flat copies of the gradients."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, nn

import tonnage
from tonnage.errors import CannotRecord

SIDE = 1024
LAYERS = 8
EACH = SIDE * SIDE * 4
ALL = LAYERS * EACH


@pytest.fixture(params=["nccl", "gloo"])
def gpu(request):
    with tonnage.virtual_gpu("A100") as card:
        distributed.init_process_group(request.param, rank=0, world_size=1, store=distributed.HashStore())
        yield card
        distributed.destroy_process_group()


def model() -> nn.Module:
    return nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(LAYERS))).cuda()


def step(module: nn.Module) -> None:
    module(torch.zeros(1, SIDE, device="cuda")).sum().backward()


def held(gpu) -> int:
    """Bytes on the card without cuBLAS's workspaces, of which backward has one too."""
    return gpu.memory_allocated() - sum(gpu.ledger.sizes[n] for n in gpu._workspaces.values())


def test_buckets_are_as_large_as_the_gradients_and_stand_beside_them(gpu):
    inner = model()
    assert held(gpu) == ALL
    wrapped = nn.parallel.DistributedDataParallel(inner, device_ids=[0])
    assert held(gpu) == 2 * ALL
    for _ in range(3):
        step(wrapped)
        assert held(gpu) == 3 * ALL
        wrapped.zero_grad()
        assert held(gpu) == 2 * ALL


def test_gradients_may_be_views_of_the_buckets(gpu):
    """From the second step on; in the first they are made, copied in and replaced."""
    wrapped = nn.parallel.DistributedDataParallel(model(), device_ids=[0], gradient_as_bucket_view=True)
    for _ in range(2):
        step(wrapped)
        wrapped.zero_grad(set_to_none=False)
    assert held(gpu) == 2 * ALL


def test_parameters_that_do_not_train_are_in_no_bucket(gpu):
    inner = model()
    inner[0].requires_grad_(False)
    wrapped = nn.parallel.DistributedDataParallel(inner, device_ids=[0])
    assert wrapped.module is inner
    assert held(gpu) == ALL + (LAYERS - 1) * EACH


@pytest.mark.filterwarnings("ignore:barrier")
def test_what_is_gathered_from_one_is_a_copy(gpu):
    x = torch.zeros(4, device="cuda")
    made = [torch.zeros_like(x)]
    distributed.all_gather(made, x)
    distributed.all_reduce(x)
    distributed.broadcast(x, 0)
    distributed.barrier()
    assert made[0].shape == x.shape


def test_nccl_is_listed(gpu):
    assert [entry.what for entry in gpu.recording.not_counted] == ["what NCCL takes"]


def test_more_ranks_are_refused_with_a_way_out():
    with tonnage.virtual_gpu("A100"), pytest.raises(CannotRecord, match="2 ranks") as refused:
        distributed.init_process_group("nccl", rank=0, world_size=2, store=distributed.HashStore())
    assert "world_size=1" in str(refused.value.hint)


def test_outside_of_the_block_everything_is_as_it_was():
    before = distributed.distributed_c10d.is_nccl_available, vars(distributed.distributed_c10d).get("ProcessGroupNCCL")
    with tonnage.virtual_gpu("A100"):
        pass
    after = distributed.distributed_c10d.is_nccl_available, vars(distributed.distributed_c10d).get("ProcessGroupNCCL")
    assert before == after
