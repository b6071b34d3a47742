"""Process groups of one rank: `DistributedDataParallel` with its buckets, where there is nobody to speak to.

"nccl" and "gloo" become a group whose collectives are over as soon as they are asked for and leave every tensor as it
is, which is what they do for a single rank. What the libraries take for themselves is outside of PyTorch's memory.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from tonnage.errors import CannotRecord

if TYPE_CHECKING:
    from tonnage.tracking.patches import Patches
    from tonnage.virtual.gpu import VirtualGpu


def install_distributed(gpu: VirtualGpu, patches: Patches) -> None:
    if not distributed.is_available():
        return
    from torch.distributed import distributed_c10d

    make = _maker(gpu)
    for name in ("is_nccl_available", "is_gloo_available"):
        patches.set(distributed_c10d, name, lambda: True)
        patches.set(distributed, name, lambda: True)
    for name in ("ProcessGroupNCCL", "ProcessGroupGloo"):
        patches.set(distributed_c10d, name, make)
    patches.set(distributed_c10d, "default_pg_nccl_timeout", distributed_c10d.default_pg_timeout)


def _maker(gpu: VirtualGpu) -> Any:
    """What stands for the classes ProcessGroupNCCL and ProcessGroupGloo."""

    class Alone(distributed.ProcessGroup):
        Options = SimpleNamespace

        def __init__(self, store: Any, rank: int, size: int, *args: Any, **kwargs: Any) -> None:
            if size > 1:
                raise CannotRecord(
                    f"a process group of {size} ranks cannot be recorded",
                    hint="weigh one rank, with world_size=1: its buckets are those of each of many",
                )
            super().__init__(rank, size)  # type: ignore[call-arg]
            gpu.not_counted("what NCCL takes", "outside of PyTorch's memory, and a single rank speaks to nobody")

        options = SimpleNamespace()

        def getBackendName(self) -> str:
            return "nccl"

        def _set_sequence_number_for_group(self) -> None:
            """Nobody counts."""

    for name in _IN_PLACE:
        setattr(Alone, name, _in_place)
    for name in _ACROSS:
        setattr(Alone, name, _across)
    return Alone


_IN_PLACE = ("allreduce", "allreduce_coalesced", "broadcast", "reduce", "barrier")
_ACROSS = (
    "allgather",
    "_allgather_base",
    "allgather_into_tensor_coalesced",
    "gather",
    "reduce_scatter",
    "_reduce_scatter_base",
    "reduce_scatter_tensor_coalesced",
    "scatter",
    "alltoall_base",
    "alltoall",
)


def _in_place(group: Any, tensors: Any = None, *args: Any, **kwargs: Any) -> Any:
    return _done(tensors if isinstance(tensors, list) else [])


def _across(group: Any, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """A copy of what this rank gave, in the place of what it gets."""
    targets, sources = _flat(outputs), _flat(inputs)
    for target, source in zip(targets, sources, strict=False):
        target.view(-1).copy_(source.reshape(-1))
    return _done(outputs if isinstance(outputs, list) else [outputs])


def _flat(tensors: Any) -> list[torch.Tensor]:
    if isinstance(tensors, torch.Tensor):
        return [tensors]
    return [tensor for item in tensors for tensor in _flat(item)]


def _done(result: Any) -> Any:
    """Work that is over."""
    future: torch.futures.Future[Any] = torch.futures.Future()
    future.set_result(result)
    return vars(torch._C._distributed_c10d)["_create_work_from_future"](future)
