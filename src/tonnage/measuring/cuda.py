"""A run on a CUDA card, recorded from what PyTorch's own allocator writes down."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import nn

from tonnage.errors import CannotMeasure, UnknownCard
from tonnage.gpus import MemoryRange, find_card
from tonnage.ledger import Category
from tonnage.measuring import nvml
from tonnage.measuring.card_history import BACKWARD, CardHistory, Figures, Said, Tracked, history_of
from tonnage.recording import Environment, Recording
from tonnage.tracking.modules import ModuleTracker
from tonnage.tracking.patches import Patches
from tonnage.workload.libraries import installed

MOST_EVENTS = 5_000_000
"""A training step of a large model has some ten thousand; each takes about a KiB of the host's memory."""


class CudaRecorder:
    """Records one run on the current CUDA device: enter it before the model is moved there.

    with CudaRecorder() as recorder:
        run(workload, scenario, device="cuda", mark=recorder.mark, watch=recorder.watch)
    recorder.recording.ledger, recorder.history.figures

    Every request to PyTorch's allocator is there, in bytes as asked for, from all threads. Modules and phases are
    followed in the thread that entered; in backward no module is known. Marks wait for the card (synchronize) and note
    what torch.cuda and NVML answer. What was on the card before is at the ledger's begin.
    """

    device = "cuda"

    def __init__(self, *, stacks: bool = True) -> None:
        """`stacks`: note the line of Python code for each allocation, at about 2 microseconds each."""
        self.thread = get_ident()
        self.modules = ModuleTracker(self)
        self._stacks = stacks
        self._patches = Patches()
        self._said: list[Said] = []
        self._begin = 0
        self._uuid: str | None = None
        self._environment: Environment | None = None
        self._snapshot: dict[str, Any] = {}
        self._history: CardHistory | None = None

    def __enter__(self) -> CudaRecorder:
        if not torch.cuda.is_available():
            raise CannotMeasure(
                "PyTorch sees no CUDA device here", hint="measure on the CPU, or install a CUDA build where a card is"
            )
        torch.cuda.init()
        self._environment = environment()
        self._uuid = _uuid()
        memory: Any = torch.cuda.memory  # its history is no public part of it
        memory._record_memory_history(enabled=None)
        memory._record_memory_history(
            enabled="all", context="alloc" if self._stacks else None, stacks="python", max_entries=MOST_EVENTS
        )
        self._begin = _requests()
        self.modules.install(self._patches)
        self._follow_backward()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.modules.tag_members()
            self._say(last=True)
        finally:
            self.modules.uninstall()
            self._patches.restore()
        try:
            self._snapshot = _end_history()
        except RuntimeError as trouble:
            if error is None:
                raise CannotMeasure(_GONE, hint=f"the driver said: {trouble}") from None
            return  # what went wrong inside tells more
        self._history = self._read()

    def _read(self) -> CardHistory:
        modules = self.modules
        tracked = Tracked(modules=modules.modules, calls=modules.calls, parameters=modules.parameters())
        assert self._environment is not None
        device = torch.cuda.current_device()
        return history_of(self._snapshot, self._said, environment=self._environment, tracked=tracked, device=device)

    @property
    def history(self) -> CardHistory:
        """The recording with the card's own figures beside it, complete after leaving."""
        if self._history is None:
            raise CannotMeasure(_GONE, hint="what it answered at the marks before is in `kept`")
        return self._history

    @property
    def kept(self) -> tuple[dict[str, Any], list[Said]]:
        """The card's own snapshot, as torch.cuda.memory._snapshot() answered it, and what was said meanwhile."""
        return self._snapshot, self._said

    @property
    def recording(self) -> Recording:
        return self.history.recording

    def mark(self, name: str) -> None:
        """Names this instant, once the card has done its work, and notes what it answers."""
        torch.cuda.synchronize()
        self._say(mark=name, figures=figures(), process=nvml.process_bytes(self._uuid))

    def watch(self, model: nn.Module) -> None:
        """Names modules and parameters of `model` by their paths in it."""
        self.modules.watch(model)

    def position(self) -> int:
        """The index of what was said, which the history turns into operators."""
        return self._say()

    def tag(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Says what the storages of `tensors` are."""
        storages = (t.untyped_storage() for t in tensors if t.is_cuda and t.layout is torch.strided)
        self._say(tags=[(storage.data_ptr(), category) for storage in storages])

    def _say(self, **what: Any) -> int:
        modules = self.modules
        self._said.append(Said(_requests() - self._begin, modules.current, modules.phase, **what))
        return len(self._said) - 1

    def _follow_backward(self) -> None:
        """Backward begins and ends where torch.autograd hands over to its engine."""
        run, modules = torch.autograd._engine_run_backward, self.modules  # type: ignore[attr-defined]

        def run_backward(*args: Any, **kwargs: Any) -> Any:
            before, modules.phase = modules.phase, BACKWARD
            self._say()
            try:
                return run(*args, **kwargs)
            finally:
                modules.phase = before
                self._say()

        self._patches.set(torch.autograd, "_engine_run_backward", run_backward)


recorder = CudaRecorder


def figures() -> Figures:
    """What torch.cuda answers now."""
    cuda = torch.cuda
    return Figures(
        cuda.memory_allocated(), cuda.memory_reserved(), cuda.max_memory_allocated(), cuda.max_memory_reserved()
    )


def environment() -> Environment:
    """The current card, its driver, and what runs on it.

    The context is what NVML says the process holds beyond PyTorch's allocator, with everything that was loaded before;
    where it does not say, what the catalogue says of such a card, if it knows it.
    """
    torch.cuda.synchronize()  # the context is made by the first call that needs it, and this one does
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    torch_version = torch.__version__.partition("+")[0]
    context = _context(properties.name, torch_version)
    return Environment(
        device=properties.name,
        compute_capability=(properties.major, properties.minor),
        sm_count=properties.multi_processor_count,
        total_memory=properties.total_memory,
        context_bytes=context.typical,
        context_bytes_low=context.low,
        context_bytes_high=context.high,
        torch_rules=torch_version,
        torch_running=str(torch.__version__),
        python=platform.python_version(),
        alloc_conf=_alloc_conf(),
        libraries={**installed(), **_versions()},
        measured=True,
    )


_GONE = "the card stopped answering before its history was read"


def _end_history() -> dict[str, Any]:
    """The allocator's history up to now, which it keeps no longer."""
    torch._C._cuda_clearCublasWorkspaces()  # which shows what of it all they were
    memory: Any = torch.cuda.memory
    snapshot: dict[str, Any] = memory._snapshot()
    memory._record_memory_history(enabled=None)
    return snapshot


def _requests() -> int:
    """Allocations and frees so far (c10/core/CachingDeviceAllocator.h: DeviceStats.allocation)."""
    counts = torch.cuda.memory_stats_as_nested_dict()["allocation"]["all"]
    return int(counts["allocated"]) + int(counts["freed"])


def _context(name: str, torch_version: str) -> MemoryRange:
    held = nvml.process_bytes(_uuid())
    if held is not None:
        context = held - torch.cuda.memory_reserved()
        return MemoryRange(context, context, context)
    try:
        return find_card(name).context_bytes(torch_version)
    except UnknownCard:
        return MemoryRange(0, 0, 0)


def _uuid() -> str | None:
    """NVML's name of the card: PyTorch leaves the prefix out."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"


def _alloc_conf() -> str:
    return os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or os.environ.get("PYTORCH_ALLOC_CONF", "")


def _versions() -> dict[str, str]:
    found = {"driver": nvml.driver_version(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {name: str(version) for name, version in found.items() if version is not None}
