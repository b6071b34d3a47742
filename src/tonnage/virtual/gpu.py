"""The virtual GPU: one card, its allocator, and everything that has happened on it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tonnage.allocator import Block, CachingAllocator, OutOfMemory, Settings
from tonnage.gpus import Card
from tonnage.ledger import Category, Kind
from tonnage.recording import Assumption, Environment
from tonnage.tracking.patches import Patches
from tonnage.units import MiB
from tonnage.virtual import kernels
from tonnage.virtual.device import VirtualDevice
from tonnage.virtual.kernels.cudnn.recurrent import flatten_parameters
from tonnage.virtual.oom import out_of_memory_message
from tonnage.virtual.rules import Rules
from tonnage.virtual.runtime import Runtime, install_runtime
from tonnage.workload.libraries import installed

LIBRARIES = {"cublas": 18 * MiB, "cudnn": 26 * MiB}
"""What a library with its handle, and the kernels of PyTorch that run beside it, take of the card once it is used.

By what NVML showed beyond the segments in published training runs on RTX 3060 and 4060 (xMem, torch 2.6 with lazy
loading): 4 to 50 MiB, median 18, for T5, which uses cuBLAS alone; 26 to 72 MiB, median 44, for ConvNeXt, which uses
both. MobileNetV2, nearly all of it cuDNN's, took 74 to 102 MiB."""
LIBRARIES_HIGH = 300 * MiB
"""The most, by forum posts and logs: 50 to 150 MiB for transformers, 100 to 300 MiB for convolutions. Assumed."""


class VirtualGpu(VirtualDevice):
    """A card without a card; made by `tonnage.virtual_gpu`."""

    habits = kernels.CUDA

    def __init__(
        self, card: Card, *, torch_version: str, total_memory: int, alloc_conf: str, cudnn_benchmark: bool
    ) -> None:
        self.card = card
        self.rules = Rules(card, torch_version)
        self.total_memory = total_memory
        self.alloc_conf = alloc_conf
        self.cudnn_benchmark = cudnn_benchmark
        self.context = card.context_bytes(torch_version)
        self.allocator = CachingAllocator(
            Settings.parse(alloc_conf),
            capacity=max(total_memory - self.context.typical, 0),
            total_memory=total_memory,
        )
        self.stream = 0
        self._workspaces: dict[tuple[str, str, int], int] = {}
        self._loaded: set[str] = set()
        self.benchmarked: set[Any] = set()
        self._blocks: dict[int, Block] = {}
        super().__init__()
        self.runtime = Runtime(self)

    # What the card answers ----------------------------------------------------------------------------------------

    def memory_allocated(self) -> int:
        """Bytes of the blocks handed out, as `torch.cuda.memory_allocated`."""
        return self.allocator.allocated

    def max_memory_allocated(self) -> int:
        return self.allocator.peak_allocated

    def memory_reserved(self) -> int:
        """Bytes of the segments taken from the driver, as `torch.cuda.memory_reserved`."""
        return self.allocator.reserved

    def max_memory_reserved(self) -> int:
        return self.allocator.peak_reserved

    def memory_stats(self) -> dict[str, int]:
        return self.allocator.stats()

    def reset_peak_memory_stats(self) -> None:
        self.allocator.reset_peak()
        self.ledger.note(Kind.RESET_PEAK)

    def empty_cache(self) -> None:
        self.allocator.empty_cache()
        self.ledger.note(Kind.EMPTY_CACHE)

    def context_bytes(self) -> int:
        """What the process holds on the card before its first allocation (modelled; see `Card.context_bytes`)."""
        return self.context.typical

    def libraries_bytes(self) -> int:
        """What the libraries that have been used so far take beside PyTorch's memory (modelled; see LIBRARIES)."""
        return sum(LIBRARIES[name] for name in self._loaded)

    def process_bytes(self) -> int:
        """What nvidia-smi shows for the process: the context, the libraries in use and everything reserved."""
        return self.context_bytes() + self.libraries_bytes() + self.memory_reserved()

    def free_bytes(self) -> int:
        """What `torch.cuda.mem_get_info` calls free."""
        return max(self.total_memory - self.process_bytes(), 0)

    # What the recorder tells --------------------------------------------------------------------------------------

    def allocate(self, nbytes: int, category: Category = Category.TEMPORARY) -> int:
        """Takes `nbytes` on the current stream; returns the number of the allocation."""
        try:
            block = self.allocator.malloc(nbytes, self.stream)
        except OutOfMemory as error:
            raise torch.OutOfMemoryError(out_of_memory_message(self, error)) from None
        number = self.ledger.alloc(nbytes, stream=self.stream, op=len(self.recorder.raw) - 1, category=category)
        self._blocks[number] = block
        return number

    def free(self, number: int) -> None:
        self.allocator.free(self._blocks.pop(number))
        self.ledger.free(number)

    def load(self, library: str) -> None:
        """Takes note that `library` is in use, which leaves the allocator less of the card."""
        if library not in self._loaded:
            self._loaded.add(library)
            self.allocator.shrink(LIBRARIES[library])

    def blas_workspace(self) -> None:
        """The workspace of this thread's cuBLAS handle on this stream, taken at its first product."""
        self.load("cublas")
        self._workspace("cublas", self.rules.cublas_workspace)

    def blaslt_workspace(self) -> list[int]:
        """cuBLASLt's own workspace: taken once, or the bytes that this call takes for its length."""
        nbytes = self.rules.cublaslt_workspace
        if nbytes and self.rules.cublaslt_workspace_persists:
            self._workspace("cublaslt", nbytes)
            return []
        return [nbytes] if nbytes else []

    def _workspace(self, library: str, nbytes: int) -> None:
        thread = "forward" if torch._C._current_autograd_node() is None else "backward"
        key = (library, thread, self.stream)
        if nbytes and key not in self._workspaces:
            self._workspaces[key] = self.allocate(nbytes, Category.WORKSPACE)

    def clear_workspaces(self) -> None:
        """`torch._C._cuda_clearCublasWorkspaces`."""
        for number in self._workspaces.values():
            self.free(number)
        self._workspaces.clear()

    def address(self, storage: torch.UntypedStorage) -> int:
        """Where the allocator put a storage of the card; 0 for one of no bytes."""
        ref = self.storages.alive.get(storage._cdata)
        return 0 if ref is None or ref.number < 0 else self._blocks[ref.number].address

    def check_device(self, device: torch.device) -> None:
        if device.index not in (None, 0):
            raise (
                torch.AcceleratorError(_NO_SUCH_DEVICE)
                if hasattr(torch, "AcceleratorError")
                else RuntimeError(_NO_SUCH_DEVICE)
            )

    def record_stream(self, tensor: torch.Tensor, stream: Any) -> None:
        with torch._C.DisableTorchFunction():
            ref = self.storages.find(tensor)
        if ref is not None and ref.number >= 0:
            self.allocator.record_stream(self._blocks[ref.number], stream.cuda_stream)

    def meta_kernels(self) -> Mapping[str, Callable[..., Any]]:
        return kernels.META if self.rules.fuses_rms_norm else {}

    def _install(self, patches: Patches) -> None:
        install_runtime(self, patches)
        patches.set(nn.RNNBase, "flatten_parameters", flatten_parameters)

    # The recording ------------------------------------------------------------------------------------------------

    def environment(self) -> Environment:
        return Environment(
            device=self.card.name,
            compute_capability=self.card.compute_capability,
            sm_count=self.card.sm_count,
            total_memory=self.total_memory,
            context_bytes=self.context.typical,
            context_bytes_low=self.context.low,
            context_bytes_high=self.context.high,
            libraries_bytes=self.libraries_bytes(),
            libraries_bytes_high=LIBRARIES_HIGH if self.recorder.raw else 0,
            torch_rules=self.rules.version,
            torch_running=str(torch.__version__),  # a TorchVersion is no plain str, and is not saved
            python=platform.python_version(),
            alloc_conf=self.alloc_conf,
            libraries=installed(),
        )

    def assumptions(self) -> list[Assumption]:
        found = super().assumptions()
        if not self.rules.read_in_source:
            found.append(Assumption(f"PyTorch {self.rules.version}: rules of the nearest version that was read"))
        return found


_NO_SUCH_DEVICE = "CUDA error: invalid device ordinal"
