"""The virtual CPU: what a run takes of a CPU's memory, without data. `measure` records the same on a real one.

Every tensor made inside the block is on it, whatever made it: no other device is around, so that is settled where the
dispatcher is, and the face only answers. A CPU's allocator has no segments and rounds nothing: what is allocated are
the bytes of the living storages.
"""

from __future__ import annotations

import platform
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch

from tonnage.errors import CannotRecord
from tonnage.gpus import MemoryRange
from tonnage.ledger import Category
from tonnage.recording import Environment
from tonnage.tracking.patches import Patches
from tonnage.units import MiB
from tonnage.virtual.device import VirtualDevice
from tonnage.virtual.face import META, Args, Call, DeviceFace, Kwargs
from tonnage.virtual.kernels.cpu import CPU
from tonnage.virtual.recorder import Plan, Recorder
from tonnage.virtual.runtime import install_engine
from tonnage.virtual.storages import Place
from tonnage.workload.libraries import installed

aten = torch.ops.aten
ALIGNMENT = 64
"""c10/core/alignment.h, gAlignment: where a block may begin. It is no part of its size."""
_CROSSES_TO_HOST = (aten._to_copy.default, aten.copy_.default)
_GIVES_DATA = (aten.lift_fresh.default, aten.lift.default)
"""What `torch.tensor(data)` ends with: its tensor was filled where no dispatcher is."""
CONTEXT = MemoryRange(low=150 * MiB, high=1024 * MiB, typical=400 * MiB)
"""The resident set without PyTorch's tensors: Python, the code of libraries, what kernels and threads take. Assumed, by
what a process holds that has imported torch (about 230 MiB on Linux) and transformers; no source."""
_SCALARS = {bool: 1, int: 8, float: 8, complex: 16}


class VirtualCpu(VirtualDevice):
    """A CPU whose tensors carry no data, and whose memory has no end."""

    habits = CPU
    recorder: _CpuRecorder

    def __init__(self) -> None:
        self._addresses: dict[int, int] = {}
        self._next = ALIGNMENT
        super().__init__()

    def allocate(self, nbytes: int, category: Category = Category.TEMPORARY) -> int:
        """Takes `nbytes`; returns the number of the allocation."""
        number = self.ledger.alloc(nbytes, op=self.position() - 1, category=category)
        self._addresses[number] = self._next
        self._next += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return number

    def free(self, number: int) -> None:
        del self._addresses[number]
        self.ledger.free(number)

    def address(self, storage: torch.UntypedStorage) -> int:
        """A number that no other storage had; 0 for one of no bytes."""
        ref = self.storages.alive.get(storage._cdata)
        return 0 if ref is None or ref.number < 0 else self._addresses[ref.number]

    def mark(self, name: str) -> None:
        """Names this instant in the recording."""
        self.recorder.let_go()
        super().mark(name)

    def check_device(self, device: torch.device) -> None:
        """Any index will do, as for PyTorch."""

    def new_recorder(self) -> _CpuRecorder:
        return _CpuRecorder(self)

    def new_face(self) -> DeviceFace:
        return _CpuFace(self)

    def environment(self) -> Environment:
        return Environment(
            device="CPU",
            device_type="cpu",
            compute_capability=(0, 0),
            sm_count=0,
            total_memory=0,
            context_bytes=CONTEXT.typical,
            context_bytes_low=CONTEXT.low,
            context_bytes_high=CONTEXT.high,
            torch_rules=torch.__version__.partition("+")[0],
            torch_running=str(torch.__version__),
            python=platform.python_version(),
            libraries=installed(),
        )

    def _install(self, patches: Patches) -> None:
        install_engine(self, patches)
        get_rng_state = torch.random.get_rng_state
        for module in (torch, torch.random):
            patches.set(module, "get_rng_state", lambda: self._counted(get_rng_state()))

    def _counted(self, tensor: torch.Tensor) -> torch.Tensor:
        """A real tensor that PyTorch made past the dispatcher: checkpointing keeps the state of the generator."""
        storage = tensor.untyped_storage()
        self.storages.add(storage, Place.CARD, self.allocate(storage.nbytes()))
        return tensor


class _CpuRecorder(Recorder):
    """Puts everything that reaches the dispatcher on the virtual CPU."""

    def __init__(self, device: VirtualDevice) -> None:
        super().__init__(device)
        self._twins: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()
        self._scalars: list[int] = []
        self._met: Callable[[], torch.Tensor | None] = _nothing

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.let_go()
        if func in _GIVES_DATA and not args[0].is_meta:
            return self._born_with_data(args[0])
        if not (all(map(_is_dataless, args)) and all(map(_is_dataless, kwargs.values()))):
            args = [self._dataless(value) for value in args]
            kwargs = {name: self._dataless(value) for name, value in kwargs.items()}
        if _makes_from_nothing(func):
            kwargs = {**kwargs, "device": META}
        out = super().run(func, args, kwargs)
        if self._scalars:
            self._met = weakref.ref(out) if isinstance(out, torch.Tensor) else _nothing
        return out

    def _plan(self, func: Any) -> Plan:
        plan = super()._plan(func)
        if func in _CROSSES_TO_HOST:
            plan = plan._replace(special=None)
        if _tensor_places(func):
            plan = plan._replace(early=lambda gpu, args, kwargs: _numbers(func, args))
        self._plans[func] = plan
        return plan

    def _take(self, sizes: Iterable[int], taken: list[tuple[int, int]]) -> None:
        """Takes numbers that are made tensors; they outlive the call, for autograd may keep them."""
        self._scalars += [self.gpu.allocate(nbytes) for nbytes in sizes]

    def let_go(self) -> None:
        """After a call: numbers that were made tensors die, but for one that the node of what was made has kept."""
        if not self._scalars:
            return
        made = self._met()
        kept = getattr(made.grad_fn, "_saved_other", None) if made is not None else None
        if kept is not None and not kept.is_meta:
            self.gpu.storages.add(kept.untyped_storage(), Place.CARD, self._scalars.pop())
        for number in self._scalars:
            self.gpu.free(number)
        self._scalars.clear()

    def _dataless(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value if value.is_meta or value.layout is not torch.strided else self._twin_of(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self._dataless(item) for item in value)
        if isinstance(value, torch.device):
            return META if value.type == "cpu" else value
        return value

    def _twin_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor without data that stands for a real one from before the block, whose memory is not counted."""
        real = tensor.untyped_storage()
        storage = self._twins.get(real._cdata)  # which keeps the real one alive, as its values
        if storage is None:
            storage = self._twins[real._cdata] = self._twin_storage(real, counted=False)
        return _view(storage, tensor)

    def _born_with_data(self, tensor: torch.Tensor) -> torch.Tensor:
        twin = _view(self._twin_storage(tensor.untyped_storage(), counted=True), tensor)
        self._write(aten.lift_fresh.default, (tensor,), [], [twin])
        return twin

    def _twin_storage(self, real: torch.UntypedStorage, *, counted: bool) -> torch.UntypedStorage:
        storage = torch.empty(real.nbytes(), dtype=torch.uint8, device=META).untyped_storage()
        if counted:
            self.gpu.born(storage, Place.CARD)
        else:
            self.gpu.storages.add(storage, Place.CARD, -1)
        self.gpu.values.shadows[storage._cdata] = real
        return storage


def _nothing() -> None:
    """In place of a reference to what was made."""


class _CpuFace(DeviceFace):
    """Answers for tensors of the virtual CPU; where they are made, the recorder sees to it."""

    def __torch_function__(self, func: Call, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        if kwargs and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "meta":
            return self.placed(Place.META, func, args, kwargs)
        return self.answer(func, args, kwargs or {})

    def move(self, tensor: torch.Tensor, device: torch.device, args: Args, kwargs: Kwargs) -> Any:
        """`tensor.to(device, ...)` with the rest of the arguments of `to`."""
        if device.type == "cpu":
            return (
                self.gpu.values.to_card(tensor, args, kwargs)
                if tensor.device.type == "meta"
                else tensor.to(device, *args, **kwargs)
            )
        if device.type != "meta":
            raise CannotRecord(
                f"the model moves a tensor to {device}, and it is weighed for the CPU alone",
                hint="name a card with --gpu, or take the device from the model's inputs",
            )
        return super().move(tensor, device, args, kwargs)


def _is_dataless(value: Any) -> bool:
    """Whether an argument needs nothing done to it. A list is never: what is in it would have to be looked at."""
    if isinstance(value, torch.Tensor):
        return value.is_meta
    return not isinstance(value, (list, tuple, torch.device))


@cache
def _makes_from_nothing(func: Any) -> bool:
    """Whether an operator makes a tensor of none, where its device argument says."""
    arguments = func._schema.arguments
    return any(a.name == "device" for a in arguments) and not any("Tensor" in str(a.type) for a in arguments)


@cache
def _tensor_places(func: Any) -> tuple[int, ...]:
    """The places of the arguments that are tensors, but for the first."""
    arguments = enumerate(func._schema.arguments)
    return tuple(place for place, a in arguments if place and str(a.type) in ("Tensor", "Optional[Tensor]"))


def _numbers(func: Any, args: Any) -> Iterator[int]:
    """A Python number where an operator takes a tensor is made one, for the length of the call.

    torch/csrc/utils/python_arg_parser.cpp, PythonArgs::tensor_slow: of 8 bytes for an int or a float.
    """
    for place in _tensor_places(func):
        if place < len(args) and type(args[place]) in _SCALARS:
            yield _SCALARS[type(args[place])]


def _view(storage: torch.UntypedStorage, like: torch.Tensor) -> torch.Tensor:
    view = torch.empty(0, dtype=like.dtype, device=META)
    return view.set_(storage, like.storage_offset(), like.size(), like.stride())
