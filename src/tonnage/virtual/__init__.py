"""The virtual GPU: ordinary PyTorch code for `device="cuda"`, run without a GPU and without data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

from tonnage.errors import BadOption, CannotRecord
from tonnage.gpus import Card, find_card
from tonnage.units import parse_bytes
from tonnage.virtual.cpu import VirtualCpu
from tonnage.virtual.device import VirtualDevice
from tonnage.virtual.gpu import VirtualGpu

__all__ = ["VirtualCpu", "VirtualDevice", "VirtualGpu", "virtual_cpu", "virtual_gpu"]

_entered: list[VirtualDevice] = []
"""The blocks that have begun and not ended, the innermost last; only that one is in place."""
_entering = Lock()


@contextmanager
def virtual_gpu(
    name: str | Card,
    *,
    torch_version: str | None = None,
    total_memory: int | str | None = None,
    alloc_conf: str | None = None,
    cudnn_benchmark: bool = False,
) -> Iterator[VirtualGpu]:
    """A block in which `device="cuda"` is the card `name`, whatever PyTorch build runs it.

    >>> import torch, tonnage
    >>> with tonnage.virtual_gpu("RTX 3060 Laptop") as gpu:
    ...     model = torch.nn.Linear(1024, 1024).cuda()
    ...     print(torch.cuda.memory_allocated())
    4198400

    Tensors on the card carry no data; `torch.cuda.memory_allocated` and its kin answer what that card would. Real CPU
    tensors stay real and are not counted. Where a value cannot be known (`loss.item()`) a stand-in is answered:
    False, 1 or 1.0, and `gpu.recording.assumptions` lists it with the line that asked. Everything is put back when
    the block ends, also after an exception; a block inside a block hides the outer one for its length.

    name: a card of the catalogue (`tonnage gpus`) or an alias of one. torch_version: whose rules to follow (default:
    the installed PyTorch's). total_memory: in bytes or as "8GiB", in place of the catalogue's. alloc_conf: as
    PYTORCH_CUDA_ALLOC_CONF, which is also the default. cudnn_benchmark: as torch.backends.cudnn.benchmark; what
    its trials take is not counted, and listed.

    Raises UnknownCard, BadOption, CannotRecord (another thread is inside a block); inside the block
    `torch.OutOfMemoryError` where the card would.
    """
    card = name if isinstance(name, Card) else find_card(name)
    gpu = VirtualGpu(
        card,
        torch_version=torch_version or torch.__version__.partition("+")[0],
        total_memory=_total_memory(card, total_memory),
        alloc_conf=alloc_conf if alloc_conf is not None else os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        cudnn_benchmark=cudnn_benchmark,
    )
    with _in_place(gpu):
        yield gpu


@contextmanager
def virtual_cpu() -> Iterator[VirtualCpu]:
    """A block in which tensors on the CPU carry no data, and what they would take of its memory is recorded.

    >>> import torch
    >>> with virtual_cpu() as cpu:
    ...     model = torch.nn.Linear(1024, 1024)
    >>> cpu.recording.ledger.sizes.tolist()
    [4194304, 4096]

    Counted are the bytes of every storage that PyTorch makes inside, and not what kernels take inside themselves.
    Tensors from before the block are used as they are, and not counted. Values are as on the virtual GPU. Raises
    CannotRecord (another thread is inside a block, or a tensor is moved to another device).
    """
    cpu = VirtualCpu()
    with _in_place(cpu):
        yield cpu


@contextmanager
def _in_place(device: VirtualDevice) -> Iterator[None]:
    """A block in which `device` is the one that answers, and the one outside of it does not."""
    with _entering:
        outer = _entered[-1] if _entered else None
        if outer is not None and outer.thread != device.thread:
            raise CannotRecord(
                "another thread is inside a virtual_gpu block, and torch.cuda can speak of one card at a time",
                hint="let the threads take turns, or use a process for each",
            )
        _entered.append(device)
    try:
        if outer is not None:
            outer.leave()
        device.enter()
        yield
    finally:
        device.leave()
        innermost = _entered[-1] is device
        _entered.remove(device)
        if innermost and _entered:
            _entered[-1].enter()


def _total_memory(card: Card, given: int | str | None) -> int:
    if given is None:
        return card.total_memory.typical
    total = parse_bytes(given) if isinstance(given, str) else given
    if total < 1:
        raise BadOption(f"total_memory must be positive, not {given!r}", hint="write it in bytes or as 8GiB")
    return total
