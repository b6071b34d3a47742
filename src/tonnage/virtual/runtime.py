"""What `torch.cuda` answers inside the block.

Memory statistics are patched where PyTorch's own Python asks for them (`torch._C._cuda_memoryStats` and its like),
so `torch.cuda.memory_summary` and functions that were imported before the block answer from the simulation too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device

from tonnage.virtual.face import DeviceFace
from tonnage.virtual.storages import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tonnage.virtual.gpu import VirtualGpu
    from tonnage.virtual.patches import Patches


class Stream:
    """A stream of the card: its own part of the allocator's cache, and nothing to wait for."""

    _numbers = itertools.count(1)

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.cuda_stream = 0 if priority is _DEFAULT else next(Stream._numbers)
        self.stream_id = self.cuda_stream
        self.priority = 0 if priority is _DEFAULT else priority
        self.device = Place.CARD.value
        self.device_index = 0
        self.device_type = 1

    def synchronize(self) -> None:
        """Returns at once: nothing runs."""

    def wait_stream(self, stream: Any) -> None:
        """Returns at once."""

    def wait_event(self, event: Any) -> None:
        """Returns at once."""

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        return event if event is not None else Event()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.cuda_stream == self.cuda_stream

    def __hash__(self) -> int:
        return hash(("tonnage.Stream", self.cuda_stream))


class Event:
    """An event that has always happened; time does not pass on the virtual GPU."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self.device = Place.CARD.value

    def record(self, stream: Any = None) -> None:
        """Returns at once."""

    def wait(self, stream: Any = None) -> None:
        """Returns at once."""

    def synchronize(self) -> None:
        """Returns at once."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: Any) -> float:
        return 0.0


class Device:
    """`with torch.cuda.device(0):`; there is one card, so nothing changes."""

    def __init__(self, device: Any) -> None:
        self.idx = 0
        self.prev_idx = 0

    def __enter__(self) -> None:
        """Stays on the card."""

    def __exit__(self, *_: object) -> None:
        """Stays on the card."""


@dataclass(frozen=True)
class DeviceProperties:
    """What `torch.cuda.get_device_properties` returns, from the catalogue."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    max_threads_per_multi_processor: int
    shared_memory_per_block_optin: int
    shared_memory_per_block: int = 49152
    regs_per_multiprocessor: int = 65536
    warp_size: int = 32
    is_integrated: int = 0
    is_multi_gpu_board: int = 0
    gcnArchName: str = ""


_DEFAULT: Any = object()


def install_runtime(gpu: VirtualGpu, patches: Patches) -> None:
    """Makes `torch.cuda` speak of `gpu`."""
    runtime = Runtime(gpu)
    for name, value in runtime.low_level().items():
        patches.set(torch._C, name, value)
    for name, value in runtime.high_level().items():
        patches.set(torch.cuda, name, value)
    for name in ("mem_get_info", "memory_stats_as_nested_dict"):
        patches.set(torch.cuda.memory, name, getattr(runtime, name))
    patches.set(torch.cuda, "memory_stats_as_nested_dict", runtime.memory_stats_as_nested_dict)
    patches.set(torch.version, "cuda", torch.version.cuda or _cuda_of(gpu.rules.torch))
    patches.set(torch, "clear_autocast_cache", gpu.autocast.clear)
    patches.set(torch, "_has_compatible_shallow_copy_type", _has_compatible_shallow_copy_type)
    patches.set(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
    patches.set(_device.DeviceContext, "__torch_function__", _on_default_device)
    patches.set(torch.UntypedStorage, "resize_", runtime.resize_storage)
    patches.set(torch.Tensor, "record_stream", lambda tensor, stream: gpu.record_stream(tensor, stream))


def _cuda_of(version: tuple[int, int]) -> str:
    """The CUDA version of that PyTorch's default wheel (package metadata)."""
    for first, cuda in (((2, 11), "13.0"), ((2, 8), "12.8"), ((2, 7), "12.6")):
        if version >= first:
            return cuda
    return "12.4"


def _on_default_device(context: Any, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """`with torch.device("cuda")` and `torch.set_default_device("cuda")` for a factory that names no device.

    The device face turns "cuda" into "meta"; where it has been called already, or steps aside because PyTorch's own
    Python is running, that is done here.
    """
    kwargs = kwargs or {}
    if func in _device._device_constructors() and kwargs.get("device") is None:
        faced = any(isinstance(mode, DeviceFace) for mode in _get_current_function_mode_stack())
        device = context.device
        kwargs = {**kwargs, "device": torch.device("meta") if device.type == "cuda" and not faced else device}
    return func(*args, **kwargs)


class Runtime:
    """The functions of `torch.cuda`, answered from `gpu`."""

    def __init__(self, gpu: VirtualGpu) -> None:
        self.gpu = gpu
        self.default_stream_object = Stream(priority=_DEFAULT)
        self.current = self.default_stream_object
        self._resize = torch.UntypedStorage.resize_

    def low_level(self) -> dict[str, Any]:
        """Names of `torch._C` that PyTorch's own Python calls."""
        gpu = self.gpu
        return {
            "_cuda_getDeviceCount": lambda: 1,
            "_cuda_init": lambda: None,
            "_cuda_memoryStats": lambda device: _nested(gpu.memory_stats()),
            "_cuda_resetPeakMemoryStats": lambda device: gpu.reset_peak_memory_stats(),
            "_cuda_resetAccumulatedMemoryStats": lambda device: gpu.allocator.reset_accumulated(),
            "_cuda_emptyCache": gpu.empty_cache,
            "_cuda_memorySnapshot": lambda mempool_id=None: {"segments": gpu.allocator.segments()},
            "_cuda_isCurrentStreamCapturing": lambda: False,
            "_cuda_getCurrentRawStream": lambda device: self.current.cuda_stream,
            "_cuda_clearCublasWorkspaces": gpu.clear_workspaces,
        }

    def high_level(self) -> dict[str, Any]:
        """Names of `torch.cuda`."""
        properties = self.properties()
        capability = self.gpu.card.compute_capability
        return {
            "_initialized": True,
            "_lazy_init": lambda: None,
            "_lazy_call": lambda callable, **kwargs: callable(),
            "Stream": Stream,
            "Event": Event,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "init": lambda: None,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": self.set_device,
            "device": Device,
            "get_device_name": lambda device=None: properties.name,
            "get_device_properties": lambda device=None: properties,
            "get_device_capability": lambda device=None: capability,
            "get_arch_list": lambda: [f"sm_{capability[0]}{capability[1]}"],
            "is_bf16_supported": lambda including_emulation=True: including_emulation or capability >= (8, 0),
            "can_device_access_peer": lambda device, peer: False,
            "synchronize": lambda device=None: self.gpu.allocator.process_events(),
            "ipc_collect": lambda: None,
            "mem_get_info": self.mem_get_info,
            "current_stream": lambda device=None: self.current,
            "default_stream": lambda device=None: self.default_stream_object,
            "stream": self.stream,
            "set_stream": self.set_stream,
            "manual_seed": lambda seed: None,
            "manual_seed_all": lambda seed: None,
            "seed": lambda: None,
            "seed_all": lambda: None,
            "initial_seed": lambda: 0,
            "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
            "set_rng_state": lambda state, device="cuda": None,
            "get_rng_state_all": lambda: [torch.zeros(16, dtype=torch.uint8)],
            "set_rng_state_all": lambda states: None,
            "cudart": lambda: SimpleNamespace(cudaMemGetInfo=self.mem_get_info),
        }

    def properties(self) -> DeviceProperties:
        card = self.gpu.card
        return DeviceProperties(
            name=card.torch_name,
            major=card.compute_capability[0],
            minor=card.compute_capability[1],
            total_memory=self.gpu.total_memory,
            multi_processor_count=card.sm_count,
            max_threads_per_multi_processor=card.max_threads_per_sm,
            shared_memory_per_block_optin=card.shared_memory_per_block_optin,
        )

    def memory_stats_as_nested_dict(self, device: Any = None) -> dict[str, Any]:
        return _nested(self.gpu.memory_stats())

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return self.gpu.free_bytes(), self.gpu.total_memory

    def set_device(self, device: Any) -> None:
        if isinstance(device, int):
            self.gpu.check_device(torch.device("cuda", device))

    @contextmanager
    def stream(self, stream: Stream | None) -> Iterator[None]:
        before = self.current
        self.set_stream(stream or before)
        try:
            yield
        finally:
            self.set_stream(before)

    def set_stream(self, stream: Stream) -> None:
        self.current = stream
        self.gpu.stream = stream.cuda_stream

    def resize_storage(self, storage: torch.UntypedStorage, size: int) -> Any:
        """`storage.resize_`, which goes past the dispatcher (FSDP frees and restores parameters so)."""
        result = self._resize(storage, size)
        ref = self.gpu.storages.alive.get(storage._cdata)
        if ref is not None and ref.nbytes != storage.nbytes():
            self.gpu.resized(ref, storage)
        return result


def _has_compatible_shallow_copy_type(input: torch.Tensor, from_: torch.Tensor) -> bool:
    """CPU and CUDA tensors are; what `Module.to` asks before it keeps a parameter's identity.

    torch._dynamo compares this signature with the original's.
    """
    with torch._C.DisableTorchFunction():
        if {input.device.type, from_.device.type} <= {"cpu", "meta"}:
            return input.layout == from_.layout
        return bool(torch._C._VariableFunctions._has_compatible_shallow_copy_type(input, from_))


def _nested(stats: dict[str, int]) -> dict[str, Any]:
    """{"a.b.c": n} as {"a": {"b": {"c": n}}}, which is what the C++ returns."""
    tree: dict[str, Any] = {}
    for key, value in stats.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
