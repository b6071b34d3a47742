"""What `torch.cuda` answers inside the block.

Memory statistics are patched where PyTorch's own Python asks for them (`torch._C._cuda_memoryStats` and its like),
so `torch.cuda.memory_summary` and functions that were imported before the block answer from the simulation too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch.cuda._utils import _get_device_index
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device

from tonnage.errors import CannotRecord
from tonnage.virtual.distributed import install_distributed
from tonnage.virtual.face import DeviceFace
from tonnage.virtual.files import install_files
from tonnage.virtual.generators import CardGenerator, Generator
from tonnage.virtual.legacy import TYPES
from tonnage.virtual.streams import Event, Stream

if TYPE_CHECKING:
    from tonnage.tracking.patches import Patches
    from tonnage.virtual.device import VirtualDevice
    from tonnage.virtual.gpu import VirtualGpu


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


def install_runtime(gpu: VirtualGpu, patches: Patches) -> None:
    """Makes `torch.cuda` speak of `gpu`."""
    runtime = gpu.runtime
    for owner, names in (
        (torch._C, runtime.low_level()),
        (torch._C, runtime.accelerator()),
        (torch.cuda, {**TYPES, **runtime.high_level()}),
        (torch, runtime.top_level()),
    ):
        for name, value in names.items():
            patches.set(owner, name, value)
    for name in ("mem_get_info", "memory_stats_as_nested_dict"):
        patches.set(torch.cuda.memory, name, getattr(runtime, name))
    _install_streams(runtime, patches)
    patches.set(torch.version, "cuda", torch.version.cuda or _cuda_of(gpu.rules.torch))
    patches.set(torch.backends.cuda, "is_built", lambda: True)
    patches.set(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
    patches.set(_device.DeviceContext, "__torch_function__", _on_default_device)
    patches.set(torch.Tensor, "record_stream", lambda tensor, stream: gpu.record_stream(tensor, stream))
    install_engine(gpu, patches)
    install_files(gpu, patches)
    install_distributed(gpu, patches)


def install_engine(device: VirtualDevice, patches: Patches) -> None:
    """What any device without data needs of PyTorch: a face during backward, and storages that do not go unseen."""
    resize, data_ptr = torch.UntypedStorage.resize_, torch.UntypedStorage.data_ptr

    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        """It goes past the dispatcher (FSDP frees and restores parameters so)."""
        result = resize(storage, size)
        ref = device.storages.alive.get(storage._cdata)
        if ref is not None and ref.nbytes != storage.nbytes():
            device.resized(ref, storage)
        return result

    patches.set(torch.UntypedStorage, "resize_", resize_)
    # libraries tell shared parameters from others by it
    patches.set(torch.UntypedStorage, "data_ptr", lambda storage: device.address(storage) or data_ptr(storage))
    for module in (torch.autograd, torch.autograd.graph):
        patches.set(module, "_engine_run_backward", _faced(device, torch.autograd.graph._engine_run_backward))
    push = torch._C._autograd._push_saved_tensors_default_hooks
    patches.set(
        torch._C._autograd,
        "_push_saved_tensors_default_hooks",
        lambda pack, unpack: push(_faced(device, pack), _faced(device, unpack)),
    )
    patches.set(torch, "clear_autocast_cache", device.autocast.clear)


def _faced(device: VirtualDevice, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with the device face on: backward's hooks, and those for saved tensors, ask where their tensors are."""

    def faced(*args: Any, **kwargs: Any) -> Any:
        stack = _get_current_function_mode_stack()
        if get_ident() != device.thread or any(isinstance(mode, DeviceFace) for mode in stack):
            return run(*args, **kwargs)
        with device.face:
            return run(*args, **kwargs)

    return faced


def _install_streams(runtime: Runtime, patches: Patches) -> None:
    """Streams, events and graphs, by whatever name a program imported them before the block."""
    for original, mine in ((torch.cuda.streams.Stream, runtime.stream_class), (torch.cuda.streams.Event, Event)):
        patches.set(original, "__new__", staticmethod(lambda cls, *a, _mine=mine, **k: _mine(*a, **k)))
    for name in ("CUDAGraph", "graph", "MemPool"):
        if hasattr(torch.cuda, name):
            patches.set(getattr(torch.cuda, name), "__new__", staticmethod(_unsupported))
    patches.set(torch.cuda.graphs, "_cuda_isCurrentStreamCapturing", lambda: False)
    patches.set(torch.nn.parallel._functions, "_get_stream", lambda device: None)  # it would keep one for good
    names = ("rangePushA", "rangePop", "rangeStartA", "rangeEnd", "markA", "deviceRangeStart", "deviceRangeEnd")
    patches.set(torch.cuda.nvtx, "_nvtx", SimpleNamespace(**dict.fromkeys(names, lambda *args: 0)))


def _unsupported(cls: type, *args: Any, **kwargs: Any) -> Any:
    raise CannotRecord(f"torch.cuda.{cls.__name__} cannot be recorded", hint="run the step without it")


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
        self.stream_class = type("Stream", (Stream,), {"made": itertools.count(), "__module__": "torch.cuda"})
        self.current = self.default_stream = self.stream_class(stream_id=0)
        self.generator = CardGenerator()
        self.fraction = 1.0
        self._capacity = max(gpu.total_memory - gpu.context.typical, 0)
        self._group = torch._C._group_tensors_by_device_and_dtype

    def low_level(self) -> dict[str, Any]:
        """Names of `torch._C` that PyTorch's own Python calls; on a CPU build most of them do not exist."""
        gpu = self.gpu
        return {
            "_cuda_getDeviceCount": lambda: 1,
            "_cuda_init": lambda: None,
            "_cuda_getDevice": lambda: 0,
            "_cuda_setDevice": self.select,
            "_cuda_synchronize": gpu.allocator.process_events,
            "_cuda_ipc_collect": lambda: None,
            "_cuda_sleep": lambda cycles: None,
            "_cuda_canDeviceAccessPeer": lambda device, peer: False,
            "_cuda_getCurrentStream": lambda device: (self.current.stream_id, 0, 1),
            "_cuda_getDefaultStream": lambda device: (0, 0, 1),
            "_cuda_setStream": self.set_stream,
            "_cuda_getCurrentRawStream": lambda device: self.current.cuda_stream,
            "_cuda_getCurrentBlasHandle": lambda: 0,
            "_cuda_isCurrentStreamCapturing": lambda: False,
            "_cuda_set_sync_debug_mode": lambda mode: None,
            "_cuda_get_sync_debug_mode": lambda: 0,
            "_cuda_clearCublasWorkspaces": gpu.clear_workspaces,
            "_cuda_memoryStats": lambda device: _nested(self.stats(device)),
            "_cuda_hostMemoryStats": dict,
            "_cuda_resetPeakMemoryStats": lambda device: gpu.reset_peak_memory_stats(),
            "_cuda_resetAccumulatedMemoryStats": lambda device: gpu.allocator.reset_accumulated(),
            "_cuda_emptyCache": gpu.empty_cache,
            "_cuda_memorySnapshot": lambda mempool_id=None: {
                "segments": gpu.allocator.segments(),
                "device_traces": [[]],
            },
            "_cuda_record_memory_history": lambda *args, **kwargs: None,
            "_cuda_setMemoryFraction": self.set_memory_fraction,
            "_cuda_getMemoryFraction": lambda device: self.fraction,
            "_cuda_getAllocatorBackend": lambda: "native",
            "_group_tensors_by_device_and_dtype": self.grouped,
            "_scatter": lambda tensor, *args: [tensor.view_as(tensor) if tensor.is_cuda else tensor.cuda()],
        }

    def accelerator(self) -> dict[str, Any]:
        """What `torch.accelerator` stands on."""
        gpu = self.gpu
        return {
            "_get_accelerator": lambda: torch.device("cuda"),
            "_accelerator_getAccelerator": lambda: torch.device("cuda"),
            "_accelerator_getDeviceIndex": lambda: 0,
            "_accelerator_setDeviceIndex": self.select,
            "_accelerator_exchangeDevice": self.select,
            "_accelerator_maybeExchangeDevice": self.select,
            "_accelerator_synchronizeDevice": lambda device: gpu.allocator.process_events(),
            "_accelerator_getStream": lambda device: self.current,
            "_accelerator_setStream": self.use,
            "_accelerator_isAllocatorInitialized": lambda: True,
            "_accelerator_emptyCache": gpu.empty_cache,
            "_accelerator_getDeviceStats": lambda device: _nested(self.stats(device)),
            "_accelerator_resetPeakStats": lambda device: gpu.reset_peak_memory_stats(),
            "_accelerator_resetAccumulatedStats": lambda device: gpu.allocator.reset_accumulated(),
            "_accelerator_getMemoryInfo": lambda device: self.mem_get_info(),
        }

    def high_level(self) -> dict[str, Any]:
        """Names of `torch.cuda` that do not stand on `torch._C`, or not in every version."""
        capability = self.gpu.card.compute_capability
        return {
            "_initialized": True,
            "_cached_device_count": 1,
            "_lazy_init": lambda: None,
            "_lazy_call": lambda callable, **kwargs: callable(),
            "_exchange_device": self.select,
            "_maybe_exchange_device": self.select,
            "default_generators": (self.generator,),
            "Stream": self.stream_class,
            "Event": Event,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "init": lambda: None,
            "device_count": lambda: 1,
            "get_device_properties": self.get_device_properties,
            "get_device_capability": lambda device=None: capability,
            "get_arch_list": lambda: [f"sm_{capability[0]}{capability[1]}"],
            "is_bf16_supported": lambda including_emulation=True: including_emulation or capability >= (8, 0),
            "mem_get_info": self.mem_get_info,
            "memory_stats_as_nested_dict": self.memory_stats_as_nested_dict,
            "cudart": lambda: SimpleNamespace(cudaMemGetInfo=self.mem_get_info),
        }

    def top_level(self) -> dict[str, Any]:
        """Names of `torch`."""
        return {
            "Generator": Generator,
            "_has_compatible_shallow_copy_type": _has_compatible_shallow_copy_type,
            "compile": self.compile,
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

    def get_device_properties(self, device: Any = None) -> DeviceProperties:
        self.select(_get_device_index(device, optional=True))
        return self.properties()

    def select(self, index: int) -> int:
        """Makes device `index` the current one; returns the one before."""
        if index > 0:
            self.gpu.check_device(torch.device("cuda", index))
        return 0

    def stats(self, index: int) -> dict[str, int]:
        self.select(index)
        return self.gpu.memory_stats()

    def memory_stats_as_nested_dict(self, device: Any = None) -> dict[str, Any]:
        return _nested(self.stats(_get_device_index(device, optional=True)))

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        self.select(_get_device_index(device, optional=True))
        return self.gpu.free_bytes(), self.gpu.total_memory

    def set_stream(self, stream_id: int, device_index: int = 0, device_type: int = 1) -> None:
        self.use(self.stream_class(stream_id=stream_id))

    def use(self, stream: Stream) -> None:
        self.current = stream
        self.gpu.stream = stream.cuda_stream

    def set_memory_fraction(self, fraction: float, device: int) -> None:
        """c10/cuda/CUDACachingAllocator.cpp, setMemoryFraction: reserves no more than that part of the card."""
        self.fraction = fraction
        allowed = int(fraction * self.gpu.total_memory)
        self.gpu.allocator.driver.capacity = min(self._capacity, allowed)

    def compile(self, model: Any = None, **options: Any) -> Any:
        """`torch.compile` leaves a model as it is: what inductor would fuse is not known."""
        if model is None:
            return lambda function: self.compile(function)
        self.gpu.not_counted("torch.compile", "the model was run as it is, operator by operator")
        return model

    def grouped(self, lists: Any, with_indices: bool = False) -> Any:
        """`torch._C._group_tensors_by_device_and_dtype`, by the devices that the tensors say they are on.

        Clipping and averaging ask it for the device before they take their foreach paths.
        """
        groups: dict[Any, Any] = self._group(lists, with_indices)
        return {
            (self.gpu.place_of(found[0][0][0]).value if device.type == "meta" else device, dtype): found
            for (device, dtype), found in groups.items()
        }


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
