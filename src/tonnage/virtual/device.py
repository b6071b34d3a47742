"""A device that carries no data: what is recorded of it, whichever type it is of."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any, ClassVar

import torch
from torch import nn

from tonnage.ledger import Category, Ledger
from tonnage.recording import Assumption, Environment, NotCounted, Recording
from tonnage.trace import Mark, Trace
from tonnage.tracking.categories import more_telling
from tonnage.tracking.modules import FORWARD, ModuleTracker
from tonnage.tracking.patches import Patches
from tonnage.virtual import answers  # noqa: F401  (tells the face what to answer)
from tonnage.virtual.face import DeviceFace
from tonnage.virtual.habits import Habits
from tonnage.virtual.kernels.accumulation import sole_owner
from tonnage.virtual.kernels.autocast import Autocast
from tonnage.virtual.layer import layer_of
from tonnage.virtual.recorder import Recorder
from tonnage.virtual.storages import Place, StorageRef, Storages
from tonnage.virtual.values import Values


class VirtualDevice(ABC):
    """The memory of one device, and everything that has happened in it."""

    habits: ClassVar[Habits]

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.arriving: Place | None = None
        self.on_host = False
        self.built_without_data = False
        self.autocast = Autocast(self.habits.device.type)
        self.values = Values(self)
        self.storages = Storages(self._died)
        self.modules = ModuleTracker(self)
        self.recorder = self.new_recorder()
        self.face = self.new_face()
        self.thread = get_ident()
        self._born_in: set[int] = set()
        self._patches = Patches()
        self._running = ExitStack()
        self._parameters: list[Any] = []
        self._marks: list[Mark] = []
        self._not_counted: dict[tuple[str, str], int] = {}

    # What a type of device says -----------------------------------------------------------------------------------

    @abstractmethod
    def environment(self) -> Environment:
        """The device that the recording stands for."""

    @abstractmethod
    def allocate(self, nbytes: int, category: Category = Category.TEMPORARY) -> int:
        """Takes `nbytes`; returns the number of the allocation."""

    @abstractmethod
    def free(self, number: int) -> None:
        """Gives an allocation back."""

    @abstractmethod
    def address(self, storage: torch.UntypedStorage) -> int:
        """Where a storage of the device is; 0 for one of no bytes."""

    @abstractmethod
    def check_device(self, device: torch.device) -> None:
        """Raises what PyTorch would if there is no such device of this type."""

    @abstractmethod
    def _install(self, patches: Patches) -> None:
        """Patches what else PyTorch asks of the device."""

    def new_recorder(self) -> Recorder:
        return Recorder(self)

    def new_face(self) -> DeviceFace:
        return DeviceFace(self)

    def meta_kernels(self) -> Mapping[str, Callable[..., Any]]:
        """Kernels that `meta` lacks, by operator name."""
        return {}

    def assumptions(self) -> list[Assumption]:
        return self.values.assumptions

    @property
    def recording(self) -> Recording:
        """What has happened so far; complete once the block has ended."""
        modules = self.modules
        parameters = self._parameters or modules.parameters()
        trace = Trace(self.recorder.ops(), list(modules.modules), parameters, list(modules.calls), list(self._marks))
        return Recording(self.ledger, trace, self.environment(), self.assumptions(), self._missing())

    # What a program may say ---------------------------------------------------------------------------------------

    def mark(self, name: str) -> None:
        """Names this instant in the recording."""
        self.ledger.mark(name)
        self._marks.append(Mark(name, self.position()))

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

    def position(self) -> int:
        """How many operators have run."""
        return len(self.recorder.raw)

    def tag(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Says what the storages of `tensors` are, unless something more telling has been said."""
        with torch._C.DisableTorchFunction():
            for tensor in tensors:
                if tensor.is_meta:
                    ref = self.storages.find(tensor)
                    if ref is not None and ref.number >= 0:
                        self._retag(ref.number, category)

    def _retag(self, number: int, category: Category) -> None:
        if more_telling(category, Category(self.ledger.categories[number])):
            self.ledger.retag(number, category)

    def tag_activations(self) -> None:
        """Backward begins: what forward made and is still alive was kept for it."""
        for number in self._born_in:
            self._retag(number, Category.ACTIVATION)
        self._born_in.clear()

    def not_counted(self, what: str, reason: str) -> None:
        """Lists something that is missing from the numbers."""
        self._not_counted[what, reason] = self._not_counted.get((what, reason), 0) + 1

    def place_of(self, tensor: torch.Tensor) -> Place:
        functorch = torch._C._functorch
        with torch._C.DisableTorchFunction():
            while functorch.is_functorch_wrapped_tensor(tensor):
                tensor = functorch.get_unwrapped(tensor)
            return self.storages.place_of(tensor)

    def device_of(self, tensor: torch.Tensor) -> torch.device:
        """What a tensor without data says when it is asked for its device."""
        place = self.place_of(tensor)
        return self.habits.device if place is Place.CARD else place.value

    @contextmanager
    def arriving_at(self, place: Place) -> Iterator[None]:
        """A block in which outputs are at `place`, wherever the inputs are."""
        before, self.arriving = self.arriving, place
        try:
            yield
        finally:
            self.arriving = before

    # Coming and going ---------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Puts this device in place, in this thread."""
        sole_owner()
        self._install(self._patches)
        self.modules.install(self._patches)
        if "torch._dynamo" in sys.modules:  # what was compiled before runs as it is; the import would take a second
            self._running.enter_context(torch.compiler.set_stance("force_eager"))
        self._running.enter_context(self.recorder)
        self._running.enter_context(layer_of(self))
        self._running.enter_context(self.face)

    def leave(self) -> None:
        """Puts everything back."""
        self.modules.tag_members()
        self._parameters = self.modules.parameters() or self._parameters
        self._running.close()
        self.modules.uninstall()
        self._patches.restore()

    # The recording ------------------------------------------------------------------------------------------------

    def _missing(self) -> list[NotCounted]:
        return [NotCounted(what, reason, times) for (what, reason), times in self._not_counted.items()]
