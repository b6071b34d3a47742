"""The recorder: sees every operator below autograd and writes down the storages it gives birth to.

What a kernel takes for itself, on top of its outputs, comes from the device's `habits`; operators that need values
or cross between host and card are answered from `values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tonnage.errors import CannotRecord
from tonnage.ledger import Category
from tonnage.trace import Op, TensorSpec
from tonnage.tracking.modules import BACKWARD
from tonnage.virtual.remembered import Remembered, follows_from_layouts, key_of
from tonnage.virtual.same_device import check_same_device, crosses
from tonnage.virtual.shapes import shape_of
from tonnage.virtual.specials import SPECIAL
from tonnage.virtual.storages import Place
from tonnage.virtual.values import small

if TYPE_CHECKING:
    from tonnage.virtual.device import VirtualDevice

aten = torch.ops.aten
_COMPOSITE = "CompositeImplicitAutograd"
_EXPLICIT = torch._C.DispatchKey.CompositeExplicitAutograd
_META = torch.device("meta")


class Plan(NamedTuple):
    """What is known of an operator before it runs; made once for each."""

    composite: bool
    """It is made of other operators: under inference mode such ones arrive whole."""
    fresh: bool
    """Its outputs may be storages that did not exist before."""
    special: Callable[..., Any] | None
    shape: Callable[..., Any] | None
    """Makes its outputs, or says NotImplemented."""
    early: Callable[..., Iterable[int]] | None
    """What its kernel takes for itself before it makes its outputs."""
    scratch: Callable[..., Iterable[int]] | None
    """What its kernel takes for itself after that."""
    host_outputs: tuple[int, ...]
    """Outputs that are in host memory on CUDA."""
    crosses: bool
    """It takes tensors of different devices."""
    repeats: bool
    """What it makes follows from layouts, so that it is remembered."""


class Recorder(TorchDispatchMode):
    """Writes operators to the trace and births and deaths of storages to the ledger of `gpu`."""

    def __init__(self, gpu: VirtualDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gpu = gpu
        self.raw: list[tuple[Any, ...]] = []
        self._entries: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # a training loop repeats itself: each is kept once
        self._plans: dict[Any, Plan] = {}
        self._remembered = Remembered()
        self._in_backward = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spares every operator a wrapper, and the import of torch._dynamo."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            try:
                return self.run(func, args, kwargs or {})
            except torch.OutOfMemoryError as error:
                # A handler of this error must not find the tensors of our own frames alive.
                del args, kwargs
                raise error.with_traceback(None)  # noqa: B904

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Answers an operator as the card would: runs it, unless it needs values or crosses to the host."""
        plan = self._plans.get(func) or self._plan(func)
        if plan.composite:
            with self:
                return func.decompose(*args, **kwargs)
        if func in self.gpu.habits.taken_apart and args[0].is_meta:
            with self:
                return func._op_dk(_EXPLICIT, *args, **kwargs)
        inputs = _tensors(args, kwargs)
        if len(inputs) > 1 and not plan.crosses:
            if self.gpu.storages.elsewhere or len({t.is_meta for t in inputs}) > 1:
                check_same_device(self.gpu, func, args, inputs)
        if plan.special is not None:
            answer = plan.special(self, func, args, kwargs, inputs)
            if answer is not NotImplemented:
                return answer
        return self.record(plan, func, args, kwargs, inputs)

    def run_plainly(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operator that is special with arguments that make it a plain one."""
        return self.record(self._plans[func], func, args, kwargs, _tensors(args, kwargs))

    def record(self, plan: Plan, func: Any, args: Any, kwargs: Any, inputs: list[torch.Tensor]) -> Any:
        """Runs `func` without data and writes down what it does on the card."""
        gpu = self.gpu
        if gpu.on_host:
            args, kwargs, inputs = self._without_data(func, args, kwargs, inputs)
        out = self._made(plan, func, args, kwargs, inputs)
        outputs = [out] if isinstance(out, torch.Tensor) else _tensors((out,), {})
        if not any(t.is_meta for t in outputs or inputs):
            return out
        node = self._write(func, args, inputs, outputs)
        if plan.host_outputs:
            for index in plan.host_outputs:
                gpu.born(outputs[index].untyped_storage(), Place.HOST)
        if (plan.scratch is not None or plan.early is not None) and self.birthplace(inputs) is Place.CARD:
            self._with_scratch(plan, args, kwargs, outputs, inputs)
        elif plan.fresh:
            self._track(outputs, inputs)
        if node is not None and type(node).__name__ == "AccumulateGrad":
            gpu.tag(outputs, Category.GRADIENT)
        gpu.values.follow(func, args, kwargs, inputs, out)
        return out

    def _made(self, plan: Plan, func: Any, args: Any, kwargs: Any, inputs: list[torch.Tensor]) -> Any:
        """What `func` makes: as it did before, as a shape says, or as PyTorch's meta kernel does."""
        key = key_of(func, args, kwargs) if plan.repeats else None
        if key is not None and (made := self._remembered.get(key)) is not None:
            return made.again(args)
        out = NotImplemented if plan.shape is None else plan.shape(*args, **kwargs)
        if out is NotImplemented:
            out = func(*args, **kwargs)
        if key is not None:
            self._remembered.keep(key, args, inputs, out)
        return out

    def ops(self, begin: int = 0) -> list[Op]:
        """The operators since number `begin`, in the form that is kept; equal ones are one object."""
        made: dict[int, Op] = {}
        for entry in self.raw[begin:]:
            if id(entry) not in made:
                func, module, phase, inputs, outputs, arguments = entry
                made[id(entry)] = Op(str(func), module, phase, _specs(inputs), _specs(outputs), arguments)
        return [made[id(entry)] for entry in self.raw[begin:]]

    def _plan(self, func: Any) -> Plan:
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        habits = self.gpu.habits
        shape = habits.shapes.get(func) or shape_of(func)
        composite = has(func.name(), _COMPOSITE) and not has(func.name(), "Meta") and shape is None
        returns = func._schema.returns
        aliases = bool(returns) and all(r.alias_info is not None for r in returns)
        resizes = func.overloadpacket in _RESIZING
        plan = Plan(
            composite,
            resizes or not aliases,
            SPECIAL.get(func),
            shape,
            habits.early.get(func),
            habits.scratch.get(func),
            on_host(self.gpu) if (on_host := habits.host_outputs.get(func)) else (),
            crosses(func),
            follows_from_layouts(func),
        )
        self._plans[func] = plan
        return plan

    def _write(
        self, func: Any, args: Any, inputs: list[torch.Tensor], outputs: list[torch.Tensor]
    ) -> torch.autograd.graph.Node | None:
        """Adds the operator to the trace; returns the autograd node it runs in, if backward is running."""
        tracker = self.gpu.modules
        module, phase = tracker.current, tracker.phase
        node = torch._C._current_autograd_node()
        if node is not None:
            if not self._in_backward:
                self.gpu.tag_activations()
                self._in_backward = True
            module, phase = module or tracker.module_of(node._sequence_nr()), BACKWARD
        elif self._in_backward:
            self._in_backward = False
        entry = (
            func,
            module,
            phase,
            tuple([(t.shape, t.dtype) for t in inputs]),
            tuple([(t.shape, t.dtype) for t in outputs]),
            tuple([_plain(a) for a in args]),
        )
        self.raw.append(self._entries.setdefault(entry, entry))
        return node

    def _track(self, outputs: list[torch.Tensor], inputs: list[torch.Tensor]) -> None:
        """Allocates what was born, and grows or shrinks what was resized."""
        gpu = self.gpu
        alive = gpu.storages.alive
        for tensor in outputs:
            if not tensor.is_meta:
                continue
            try:
                storage = tensor.untyped_storage()
            except NotImplementedError:
                raise CannotRecord(
                    "a sparse tensor was made on the card, and what those take is not known",
                    hint="use dense tensors, for an embedding sparse=False",
                ) from None
            ref = alive.get(storage._cdata)
            if ref is None:
                gpu.born(storage, self.birthplace(inputs))
            elif ref.nbytes != storage.nbytes():
                gpu.resized(ref, storage)

    def _with_scratch(
        self, plan: Plan, args: Any, kwargs: Any, outputs: list[torch.Tensor], inputs: list[torch.Tensor]
    ) -> None:
        """Makes the outputs of a kernel, and for the length of the call what it takes for itself, in its order."""
        taken: list[tuple[int, int]] = []
        try:
            if plan.early is not None:
                self._take(plan.early(self.gpu, args, kwargs), taken)
            if plan.fresh:
                self._track(outputs, inputs)
            if plan.scratch is not None:
                self._take(plan.scratch(self.gpu, args, kwargs), taken)
        finally:
            for _, number in reversed(taken):
                self.gpu.free(number)

    def _take(self, sizes: Iterable[int], taken: list[tuple[int, int]]) -> None:
        """Takes a buffer of each size; a negative one gives back the last buffer of so many bytes."""
        for nbytes in sizes:
            if nbytes > 0:
                taken.append((nbytes, self.gpu.allocate(nbytes, Category.WORKSPACE)))
            elif nbytes < 0:
                index = max(i for i, (size, _) in enumerate(taken) if size == -nbytes)
                self.gpu.free(taken.pop(index)[1])

    def birthplace(self, inputs: list[torch.Tensor]) -> Place:
        """Where the output of an operator on `inputs` is: with them, or where the factory was told to be."""
        gpu = self.gpu
        if gpu.arriving is not None:
            return gpu.arriving
        place = None
        for tensor in inputs:
            if tensor.is_meta:
                place = gpu.storages.place_of(tensor)
                if place is Place.CARD:
                    return place
        return place or (Place.HOST if gpu.on_host else Place.CARD)

    def _without_data(self, func: Any, args: Any, kwargs: Any, inputs: list[torch.Tensor]) -> Any:
        """On the data-free host small tensors are real and large ones not: makes the two meet."""
        if func in _CROSSING or len({t.is_meta for t in inputs if t.dim()}) < 2:
            return args, kwargs, inputs

        def strip(value: Any) -> Any:
            return self.strip(value) if isinstance(value, torch.Tensor) and not value.is_meta else value

        args, kwargs = torch.utils._pytree.tree_map(strip, (args, kwargs))
        return args, kwargs, _tensors(args, kwargs)

    def arrive(self, func: Any, args: Any, inputs: list[torch.Tensor], made: Any) -> Any:
        """Results that were computed on the side, as newborn data-free tensors."""
        place = self.birthplace(inputs)
        twins = [self._twin(tensor, place) for tensor in ([made] if isinstance(made, torch.Tensor) else made)]
        self._write(func, args, inputs, twins)
        return twins[0] if isinstance(made, torch.Tensor) else tuple(twins)

    def _twin(self, tensor: torch.Tensor, place: Place) -> torch.Tensor:
        twin = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=_META)
        self.gpu.born(twin.untyped_storage(), place)
        if not tensor.is_meta and small(tensor):
            self.gpu.values.learn(twin, tensor)
        return twin

    def strip(self, tensor: torch.Tensor) -> torch.Tensor:
        """A data-free twin of a real tensor of the host, its values known if it is small."""
        return self._twin(tensor.clone(), Place.HOST)


def _tensors(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors among the arguments, those in lists included."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, torch.Tensor)]
    return found


def _plain(value: Any) -> Any:
    """An argument as plain data; a tensor is None, for its shape is among the inputs."""
    if value is None or isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple([_plain(item) for item in value])
    return None if isinstance(value, torch.Tensor) else str(value)


def _specs(raw: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tuple(shape), str(dtype).removeprefix("torch.")) for shape, dtype in raw)


_RESIZING = {aten.resize_, aten.set_, aten.resize_as_}
_CROSSING = {aten.copy_.default, aten._to_copy.default}
