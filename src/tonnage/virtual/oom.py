"""The message of `torch.OutOfMemoryError`, word for word as the caching allocator writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tonnage.allocator import OutOfMemory

if TYPE_CHECKING:
    from tonnage.virtual.gpu import VirtualGpu


def format_size(n: int) -> str:
    """`n` as format_size of c10/cuda/CUDACachingAllocator.cpp prints it."""
    for limit, size, unit in ((1 << 20, 1 << 10, "KiB"), (1 << 30, 1 << 20, "MiB")):
        if n <= 1024:
            return f"{n} bytes"
        if n <= limit:
            return f"{n / size:.2f} {unit}"
    return f"{n / (1 << 30):.2f} GiB"


def _advice(torch: tuple[int, int]) -> str:
    """The variable that is named, and the page: 2.9 and 2.10 name the new variable, later ones the old one again."""
    variable = "PYTORCH_ALLOC_CONF" if (2, 9) <= torch <= (2, 10) else "PYTORCH_CUDA_ALLOC_CONF"
    page = (
        "docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf"
        if torch >= (2, 11)
        else "pytorch.org/docs/stable/notes/cuda.html#environment-variables"
    )
    return (
        f"If reserved but unallocated memory is large try setting {variable}=expandable_segments:True to avoid "
        f"fragmentation.  See documentation for Memory Management  (https://{page})"
    )


def out_of_memory_message(gpu: VirtualGpu, error: OutOfMemory) -> str:
    """What the card would say (c10/cuda/CUDACachingAllocator.cpp, malloc)."""
    allocated, reserved = gpu.memory_allocated(), gpu.memory_reserved()
    allowed = f"{format_size(error.limit)} allowed; " if error.limit is not None else ""
    return (
        f"CUDA out of memory. Tried to allocate {format_size(error.tried)}. GPU 0 has a total capacity of "
        f"{format_size(gpu.total_memory)} of which {format_size(gpu.free_bytes())} is free. Including non-PyTorch "
        f"memory, this process has {format_size(gpu.process_bytes())} memory in use. {allowed}Of the allocated memory "
        f"{format_size(allocated)} is allocated by PyTorch, and {format_size(reserved - allocated)} is reserved by "
        f"PyTorch but unallocated. {_advice(gpu.rules.torch)}"
    )
