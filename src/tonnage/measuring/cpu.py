"""A run on the CPU, recorded from what PyTorch's own allocator reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch._C import _autograd as autograd
from torch._C._profiler import _ExperimentalConfig
from torch.autograd import profiler

from tonnage.errors import CannotMeasure
from tonnage.ledger import Category
from tonnage.measuring.history import MARKER, History, Said
from tonnage.measuring.resident import peak_resident_bytes, reset_peak, resident_bytes, total_memory
from tonnage.recording import PEAK, Environment, NotCounted, ProcessMemory, Recording
from tonnage.trace import Trace
from tonnage.tracking.modules import ModuleTracker
from tonnage.tracking.patches import Patches
from tonnage.workload.libraries import installed

OUTSIDE = NotCounted(
    "what is not PyTorch's CPU allocator's",
    "Python, code, and what oneDNN, MKL and threads take by themselves are in the resident set alone",
)
NAMES_OVERLOADS = "capture_overload_names" in (_ExperimentalConfig.__init__.__doc__ or "")
"""Whether this PyTorch's profiler can say which overload of an operator ran."""
_QUIET = {"KINETO_LOG_LEVEL": "99"}
"""The profiler's library announces on stderr that it starts and stops; libkineto/src/Logger.cpp reads this."""


class CpuRecorder:
    """Records one run on the CPU: enter it before the model is built, so that the weights are seen to be born.

    with CpuRecorder() as recorder:
        run(workload, scenario, device="cpu", mark=recorder.mark, watch=recorder.watch)
    recorder.recording.ledger

    Every block that PyTorch takes from the system is there, to the byte, from the thread that entered and those it
    hands work to. Tensors that existed before are not. Operators are there by name, module and phase; their shapes are
    not recorded.
    """

    device = "cpu"

    def __init__(self) -> None:
        self.thread = get_ident()
        self.modules = ModuleTracker(self)
        self._patches = Patches()
        self._said: list[Said] = []
        self._process: list[ProcessMemory] = []
        self._resident = 0
        self._recording: Recording | None = None

    def __enter__(self) -> CpuRecorder:
        if profiler._is_profiler_enabled:
            raise CannotMeasure("a profiler is running already, and there can be one", hint="measure outside of it")
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self.modules.install(self._patches)
        reset_peak()
        self._resident = resident_bytes() or 0
        settings = profiler.profile(use_cpu=True, profile_memory=True, experimental_config=_config())
        autograd._prepare_profiler(settings.config(), settings.kineto_activities)
        autograd._enable_profiler(settings.config(), settings.kineto_activities)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held = [said.nbytes for said in self._process]  # Linux counts the peak less often than what is resident
        self._process.append(ProcessMemory(PEAK, max([peak_resident_bytes(), *held])))
        self.modules.tag_members()
        events = autograd._disable_profiler().experimental_event_tree()
        self.modules.uninstall()
        self._patches.restore()
        self._recording = self._written(events)

    @property
    def recording(self) -> Recording:
        assert self._recording is not None, "the recording is complete after leaving"
        return self._recording

    def mark(self, name: str) -> None:
        """Names this instant, and notes what the process holds."""
        self._say(mark=name)
        resident = resident_bytes()
        if resident is not None:
            self._process.append(ProcessMemory(name, resident))

    def watch(self, model: nn.Module) -> None:
        """Names modules and parameters of `model` by their paths in it."""
        self.modules.watch(model)

    def position(self) -> int:
        """The number of a marker, which `History.positions` turns into operators."""
        return self._say()

    def tag(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Says what the storages of `tensors` are."""
        storages = (t.untyped_storage() for t in tensors if t.layout is torch.strided and t.device.type == "cpu")
        self._say(tags=[(storage.data_ptr(), category) for storage in storages])

    def _say(self, **what: Any) -> int:
        number = len(self._said)
        with torch._C._profiler._RecordFunctionFast(f"{MARKER}{number}"):
            self._said.append(Said(self.modules.current, self.modules.phase, **what))
        return number

    def _written(self, events: Any) -> Recording:
        modules = self.modules
        history = History(self._said, modules.module_of, overloads=NAMES_OVERLOADS)
        history.read(events)
        calls = [
            call._replace(begin=history.positions[call.begin], end=history.positions[call.end])
            for call in modules.calls
        ]
        trace = Trace(history.ops, modules.modules, modules.parameters(), calls, history.marks)
        return Recording(
            history.ledger, trace, environment(self._resident), not_counted=[OUTSIDE], process=self._process
        )


recorder = CpuRecorder


def _config() -> _ExperimentalConfig:
    return _ExperimentalConfig(capture_overload_names=True) if NAMES_OVERLOADS else _ExperimentalConfig()


def environment(resident: int | None = None) -> Environment:
    """This machine's processor, and what runs on it. `resident` is what the process held before the run."""
    held = resident if resident is not None else resident_bytes() or 0
    return Environment(
        device=f"CPU {_processor()}",
        device_type="cpu",
        compute_capability=(0, 0),
        sm_count=0,
        total_memory=total_memory(),
        context_bytes=held,
        context_bytes_low=held,
        context_bytes_high=held,
        torch_rules=torch.__version__.partition("+")[0],
        torch_running=str(torch.__version__),
        python=platform.python_version(),
        libraries={
            **installed(),
            "kernels": torch.backends.cpu.get_cpu_capability(),
            "threads": str(torch.get_num_threads()),
        },
        measured=True,
    )


def _processor() -> str:
    """The processor's name as the system has it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
