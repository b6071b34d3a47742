"""The virtual GPU: one card, its allocator, and everything that has happened on it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from threading import get_ident
from typing import Any

import torch
from torch import nn

from tonnage.allocator import Block, CachingAllocator, OutOfMemory, Settings
from tonnage.gpus import Card
from tonnage.ledger import Category, Kind, Ledger
from tonnage.recording import Assumption, Environment, NotCounted, Recording
from tonnage.trace import Mark, Trace
from tonnage.units import MiB
from tonnage.virtual import answers  # noqa: F401  (tells the face what to answer)
from tonnage.virtual.face import DeviceFace
from tonnage.virtual.kernels.accumulation import sole_owner
from tonnage.virtual.kernels.autocast import Autocast
from tonnage.virtual.kernels.cudnn.recurrent import flatten_parameters
from tonnage.virtual.layer import cuda_habits
from tonnage.virtual.modules import FORWARD, ModuleTracker
from tonnage.virtual.oom import out_of_memory_message
from tonnage.virtual.patches import Patches
from tonnage.virtual.recorder import Recorder
from tonnage.virtual.rules import Rules
from tonnage.virtual.runtime import Runtime, install_runtime
from tonnage.virtual.storages import Place, StorageRef, Storages
from tonnage.virtual.values import Values

LIBRARIES = {"cublas": 18 * MiB, "cudnn": 26 * MiB}
"""What a library with its handle, and the kernels of PyTorch that run beside it, take of the card once it is used.

By what NVML showed beyond context and segments in published training runs on RTX 3060 and 4060 (xMem, torch 2.6 with
lazy loading): 4 to 42 MiB, median 18, for T5, which uses cuBLAS alone; 22 to 74 MiB, median 44, for MobileNetV2, which
uses both."""
LIBRARIES_HIGH = 300 * MiB
"""The most, by forum posts and logs: 50 to 150 MiB for transformers, 100 to 300 MiB for convolutions. Assumed."""

_LIBRARIES = ("torch", "transformers", "torchvision", "timm", "peft", "diffusers", "accelerate")


class VirtualGpu:
    """A card without a card; made by `tonnage.virtual_gpu`."""

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
        self.ledger = Ledger()
        self.stream = 0
        self.arriving: Place | None = None
        self.on_host = False
        self.built_without_data = False
        self.autocast = Autocast()
        self._workspaces: dict[tuple[str, str, int], int] = {}
        self._loaded: set[str] = set()
        self.benchmarked: set[Any] = set()
        self.values = Values(self)
        self.storages = Storages(self._died)
        self.modules = ModuleTracker(self)
        self.recorder = Recorder(self)
        self.face = DeviceFace(self)
        self.runtime = Runtime(self)
        self.thread = get_ident()
        self._blocks: dict[int, Block] = {}
        self._born_in: set[int] = set()
        self._patches = Patches()
        self._running = ExitStack()
        self._parameters: list[Any] = []
        self._marks: list[Mark] = []
        self._not_counted: dict[tuple[str, str], int] = {}

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

    @property
    def recording(self) -> Recording:
        """What has happened so far; complete once the block has ended."""
        modules = self.modules
        parameters = self._parameters or modules.parameters()
        trace = Trace(self.recorder.ops(), list(modules.modules), parameters, list(modules.calls), list(self._marks))
        return Recording(self.ledger, trace, self._environment(), self._assumptions(), self._missing())

    # What a program may say ---------------------------------------------------------------------------------------

    def mark(self, name: str) -> None:
        """Names this instant in the recording."""
        self.ledger.mark(name)
        self._marks.append(Mark(name, len(self.recorder.raw)))

    def watch(self, model: nn.Module) -> None:
        """Names modules and parameters of `model` by their paths in it, before it is first called."""
        self.modules.watch(model)

    @contextmanager
    def host(self) -> Iterator[None]:
        """A block in which large tensors made on the CPU carry no data, so that a model of any size can be built.

        Tensors of up to 16,384 elements are real, so schedules and masks have their values. Floats that go from the
        host to the card count as random numbers from then on: asking for one is listed as an assumption.
        """
        before, self.on_host = self.on_host, True
        self.built_without_data = True
        try:
            yield
        finally:
            self.on_host = before

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

    def born(self, storage: torch.UntypedStorage, place: Place) -> None:
        """Takes note of a new storage, and of its memory if it is on the card."""
        nbytes = storage.nbytes()
        number = self.allocate(nbytes) if place is Place.CARD and nbytes else -1
        self.storages.add(storage, place, number)
        if number >= 0 and self.modules.phase == FORWARD:
            self._born_in.add(number)

    def resized(self, ref: StorageRef, storage: torch.UntypedStorage) -> None:
        """A storage grew or shrank: CUDA takes the new block, copies, and frees the old one."""
        before, ref.nbytes = ref.number, storage.nbytes()
        if ref.place is Place.CARD:
            ref.number = self.allocate(ref.nbytes) if ref.nbytes else -1
            if before >= 0:
                if ref.number >= 0:
                    self.ledger.retag(ref.number, Category(self.ledger.categories[before]))
                self.free(before)

    def _died(self, ref: StorageRef) -> None:
        self.values.forget_storage(ref.key)
        if ref.number >= 0:
            self._born_in.discard(ref.number)
            self.free(ref.number)

    def tag(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Says what the storages of `tensors` are, unless something more telling has been said."""
        with torch._C.DisableTorchFunction():
            for tensor in tensors:
                if tensor.is_meta:
                    ref = self.storages.find(tensor)
                    if ref is not None and ref.number >= 0:
                        self._retag(ref.number, category)

    def _retag(self, number: int, category: Category) -> None:
        if _TELLING[category] > _TELLING[Category(self.ledger.categories[number])]:
            self.ledger.retag(number, category)

    def tag_activations(self) -> None:
        """Backward begins: what forward made and is still alive was kept for it."""
        for number in self._born_in:
            self._retag(number, Category.ACTIVATION)
        self._born_in.clear()

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

    def not_counted(self, what: str, reason: str) -> None:
        """Lists something that is missing from the numbers."""
        self._not_counted[what, reason] = self._not_counted.get((what, reason), 0) + 1

    def place_of(self, tensor: torch.Tensor) -> Place:
        functorch = torch._C._functorch
        with torch._C.DisableTorchFunction():
            while functorch.is_functorch_wrapped_tensor(tensor):
                tensor = functorch.get_unwrapped(tensor)
            return self.storages.place_of(tensor)

    def address(self, storage: torch.UntypedStorage) -> int:
        """Where the allocator put a storage of the card; 0 for one of no bytes."""
        ref = self.storages.alive.get(storage._cdata)
        return 0 if ref is None or ref.number < 0 else self._blocks[ref.number].address

    @contextmanager
    def arriving_at(self, place: Place) -> Iterator[None]:
        """A block in which outputs are at `place`, wherever the inputs are."""
        before, self.arriving = self.arriving, place
        try:
            yield
        finally:
            self.arriving = before

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

    # Coming and going ---------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Puts the card in place of CUDA, in this thread."""
        sole_owner()
        install_runtime(self, self._patches)
        self._patches.set(nn.RNNBase, "flatten_parameters", flatten_parameters)
        self.modules.install(self._patches)
        if "torch._dynamo" in sys.modules:  # what was compiled before runs as it is; the import would take a second
            self._running.enter_context(torch.compiler.set_stance("force_eager"))
        self._running.enter_context(self.recorder)
        self._running.enter_context(cuda_habits(self))
        self._running.enter_context(self.face)

    def leave(self) -> None:
        """Puts everything back."""
        self.modules.tag_members()
        self._parameters = self.modules.parameters() or self._parameters
        self._running.close()
        self.modules.uninstall()
        self._patches.restore()

    # The recording ------------------------------------------------------------------------------------------------

    def _environment(self) -> Environment:
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
            libraries=_installed(),
        )

    def _assumptions(self) -> list[Assumption]:
        found = self.values.assumptions
        if not self.rules.read_in_source:
            found.append(Assumption(f"PyTorch {self.rules.version}: rules of the nearest version that was read"))
        return found

    def _missing(self) -> list[NotCounted]:
        return [NotCounted(what, reason, times) for (what, reason), times in self._not_counted.items()]


_NO_SUCH_DEVICE = "CUDA error: invalid device ordinal"
_TELLING = {
    Category.TEMPORARY: 0,
    Category.WORKSPACE: 1,
    Category.ACTIVATION: 2,
    Category.OUTPUT: 3,
    Category.INPUT: 4,
    Category.GRADIENT: 5,
    Category.OPTIMIZER: 6,
    Category.BUFFER: 7,
    Category.PARAMETER: 8,
}
"""Which of two names for one storage says more: an input that is also a parameter is a parameter."""


def _installed() -> dict[str, str]:
    return {name: found for name in _LIBRARIES if (found := _version_of(name)) is not None}


@cache
def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
