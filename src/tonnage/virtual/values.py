"""What is known of the values behind data-free tensors.

Model code asks for values: `.item()`, `if mask.all()`, `lengths.tolist()`. Small tensors that came from known data
(ids and masks of the input, `arange`, `zeros`, what is computed from them) have a shadow: a real storage of the same
layout, on which every operator is run along. Where a value cannot be known a stand-in is answered and the recording
lists it with the line of user code that asked.

The stand-ins: False for a bool, 1 for an integer, 1.0 for a float; zeros for a tensor copied to the host. Unknown
floats are taken to be finite, and tokens to be spread evenly over experts (see routing). Small tensors drawn at random
on the card have the virtual card's own numbers. Asking for a value that depends on any of these is listed too.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tonnage.errors import CannotRecord
from tonnage.recording import Assumption
from tonnage.virtual import routing
from tonnage.virtual.storages import Place

if TYPE_CHECKING:
    from tonnage.virtual.device import VirtualDevice

aten = torch.ops.aten
_CPU = torch.device("cpu")

KNOWN_INTEGERS = 1 << 18
"""Elements up to which integer and bool tensors are followed: the ids of 64 x 4096 tokens."""
KNOWN_FLOATS = 512
"""Elements up to which floating tensors are followed: schedules and scales, not activations."""
_FILLED = {aten.ones.default, aten.zeros.default, aten.full.default}
"""Masks that models make themselves are often floats: a tensor filled with one number is followed like an integer's."""

PATIENCE = 5000
"""How often one line may ask for the same unknown bool before it is taken to be a loop that waits for it."""

_NOT_USER_CODE = (
    *(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(torch.__file__).parent)),
    *("<frozen", "<string>", "<eval_with_key>"),
)
"""How the file names of frames begin that did not ask by themselves; "<stdin>" and "<doctest" are users."""
_UNINITIALISED = {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default}
_DRAWN = "a value that depends on random numbers was asked for: the virtual card's own stand in"
_FINITE: dict[Any, bool] = {aten.isnan.default: False, aten.isinf.default: False, aten.isfinite.default: True}

_DECIDED_BY_ONE: dict[Any, bool] = {
    aten.bitwise_or.Tensor: True,
    aten.logical_or.default: True,
    aten.bitwise_and.Tensor: False,
    aten.logical_and.default: False,
}
"""Operators of two inputs of which one decides, and the value with which it does."""


_TRIANGLES = {aten.tril.default, aten.triu.default}
_SOFTMAXES = {aten._softmax.default, aten._log_softmax.default}
_SOFTMAX_BACKWARDS = {aten._softmax_backward_data.default, aten._log_softmax_backward_data.default}
"""On a CPU they have no kernel from fp16 to fp32 and back."""


def small(tensor: torch.Tensor) -> bool:
    """Whether a tensor is small enough for its values to be followed."""
    limit = KNOWN_FLOATS if tensor.dtype.is_floating_point or tensor.dtype.is_complex else KNOWN_INTEGERS
    return tensor.numel() <= limit


def _as_integers(tensor: torch.Tensor) -> bool:
    return tensor.numel() <= KNOWN_INTEGERS


def dtype_among(args: Any, kwargs: Any) -> torch.dtype | None:
    """The dtype that the arguments of `Tensor.to` name, if they do."""
    found: torch.dtype | None = kwargs.get("dtype", next((a for a in args if isinstance(a, torch.dtype)), None))
    return found


def asking_line() -> str:
    """The nearest line outside of PyTorch and tonnage that led here, as "train.py:12"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_USER_CODE):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    parts = path.parts[-2:] if "site-packages" in path.parts else path.parts[-1:]
    return f"{'/'.join(parts)}:{frame.f_lineno}"


def _initialises_weights() -> bool:
    """Whether torch.nn.init asks (truncated normals look for outliers): weights have no values, and none matter."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_USER_CODE):
        if frame.f_code.co_filename == torch.nn.init.__file__:
            return True
        frame = frame.f_back
    return False


def unrecorded() -> Any:
    """A block in which operators on real tensors do not come by the recorder."""
    return torch._C._DisableTorchDispatch()


class Values:
    """The shadows of one block, and the assumptions made where there is none."""

    def __init__(self, gpu: VirtualDevice) -> None:
        self.gpu = gpu
        self.shadows: dict[int, torch.UntypedStorage] = {}
        self.invented: dict[int, str] = {}
        self._assumed: Counter[tuple[str, str]] = Counter()
        self._random = torch.Generator().manual_seed(0).get_state()

    @property
    def assumptions(self) -> list[Assumption]:
        return [Assumption(what, where, times) for (what, where), times in self._assumed.items()]

    def assume(self, what: str) -> int:
        """Lists `what` with the line that asked; returns how often that line has."""
        key = what, asking_line()
        self._assumed[key] += 1
        return self._assumed[key]

    def known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A real tensor with the values of `tensor`, sharing memory with its other views, or None."""
        if not tensor.untyped_storage().device.type == "meta":
            return tensor
        shadow = self.shadows.get(tensor.untyped_storage()._cdata)
        if shadow is None:
            return None
        with torch._C.DisableTorchFunction(), unrecorded():
            view = torch.empty(0, dtype=tensor.dtype)
            return view.set_(shadow, tensor.storage_offset(), tensor.size(), tensor.stride())

    def learn(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """Gives the freshly born data-free `tensor` the values of `real`."""
        storage = tensor.untyped_storage()
        if real.stride() != tensor.stride() or real.untyped_storage().nbytes() != storage.nbytes():
            with unrecorded():
                view = torch.empty(0, dtype=tensor.dtype).set_(
                    torch.UntypedStorage(storage.nbytes()), tensor.storage_offset(), tensor.size(), tensor.stride()
                )
                real = view.copy_(real)
        self.shadows[storage._cdata] = real.untyped_storage()

    def forget(self, tensor: torch.Tensor) -> None:
        self.forget_storage(tensor.untyped_storage()._cdata)

    def forget_storage(self, key: int) -> None:
        self.shadows.pop(key, None)
        self.invented.pop(key, None)

    def asked(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """`known`, for code that is about to act on the values: those that were invented are an assumption."""
        if tensor.is_meta and (said := self.invented.get(tensor.untyped_storage()._cdata)):
            self.assume(said)
        return self.known(tensor)

    def _invented(self, func: Any, inputs: Sequence[torch.Tensor]) -> str:
        """What is to be said of values that depend on random numbers or on a routing; "" if they do not.

        Random numbers are those drawn on the card, and the floats of a model that has no data.
        """
        if torch.Tag.nondeterministic_seeded in func.tags:
            return _DRAWN
        for tensor in inputs:
            if not tensor.is_meta:
                if self.gpu.built_without_data and tensor.is_floating_point():
                    return _DRAWN
            elif said := self.invented.get(tensor.untyped_storage()._cdata):
                return said
        return ""

    # Following operators ------------------------------------------------------------------------------------------

    def follow(self, func: Any, args: Any, kwargs: Any, inputs: Sequence[torch.Tensor], out: Any) -> None:
        """Runs `func` on the shadows of its inputs, once it has run on the data-free tensors."""
        if func._schema.is_mutable:
            self._follow_mutation(func, args, kwargs, inputs)
            return
        shadows = self.shadows
        for tensor in inputs:
            if tensor.is_meta and tensor.untyped_storage()._cdata not in shadows:
                if func in _FINITE or func in _DECIDED_BY_ONE:
                    self._follow_partly_known(func, inputs, out)
                elif found := routing.choice(func, args, out):
                    self._invent(*found)
                return
        if out is None:  # the operator only looks at its inputs
            return
        outputs = _tensors_of(out)
        follows = _as_integers if func in _FILLED else small
        if not all(map(follows, outputs)) or not _runs_on_host(func):
            return
        said = self._invented(func, inputs)
        try:
            values = self.compute(func, args, kwargs)
        except NotImplementedError:  # not for this type on a CPU: a histogram of integers
            return
        for tensor, value in zip(outputs, _tensors_of(values), strict=True):
            key = tensor.untyped_storage()._cdata
            if key not in shadows and value.shape == tensor.shape:  # a CPU keeps buffers that CUDA does not
                self.learn(tensor, value)
                if said:
                    self.invented[key] = said

    def _invent(self, indices: torch.Tensor, routed: torch.Tensor) -> None:
        if small(indices):
            self.learn(indices, routed)
            self.invented[indices.untyped_storage()._cdata] = routing.SAYS

    def _follow_partly_known(self, func: Any, inputs: Sequence[torch.Tensor], out: torch.Tensor) -> None:
        """What an operator gives whatever the unknown input is: `done | unknown` where all are done is done."""
        if not small(out):
            return
        if func in _FINITE:
            self.learn(out, torch.full(out.shape, _FINITE[func]))
            return
        decisive = _DECIDED_BY_ONE[func]
        for known in map(self.known, inputs):
            if known is None:
                continue
            if (known.dtype is torch.bool or not decisive) and bool((known == decisive).all()):
                self.learn(out, torch.full(out.shape, decisive, dtype=out.dtype))
                return

    def _follow_mutation(self, func: Any, args: Any, kwargs: Any, inputs: Sequence[torch.Tensor]) -> None:
        written = [t for t in _written(func, args, kwargs) if t.device.type == "meta"]
        if not any(t.untyped_storage()._cdata in self.shadows for t in written):
            return
        if func is aten._amp_foreach_non_finite_check_and_unscale_.default:
            self.assume("gradients are finite, so the scaler takes the step")
        elif _runs_on_host(func) and all(self.known(t) is not None for t in inputs):
            self.compute(func, args, kwargs)
            if said := self._invented(func, inputs):
                self.invented.update((t.untyped_storage()._cdata, said) for t in written)
        else:
            for tensor in written:
                self.forget(tensor)

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of `func` on real tensors; the user's random state is not touched."""
        real_args = [self._real(value) for value in args]
        real_kwargs = {name: self._real(value) for name, value in kwargs.items()}
        if func in _TRIANGLES:
            return _triangle(func, *real_args, **real_kwargs)
        if func in _SOFTMAXES and real_args[2]:
            return func(real_args[0].float(), real_args[1], False)
        if func in _SOFTMAX_BACKWARDS and real_args[3] != real_args[0].dtype:
            return func(*real_args[:3], real_args[0].dtype).to(real_args[3])
        if func in _UNINITIALISED:
            return torch.zeros_like(func(*real_args, **real_kwargs))
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*real_args, **real_kwargs)
        with self._private_random():
            return func(*real_args, **real_kwargs)

    def _real(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.known(value)
        if isinstance(value, (list, tuple)):
            return [self._real(item) for item in value]
        if isinstance(value, torch.device):
            return _CPU
        return value

    @contextmanager
    def _private_random(self) -> Iterator[None]:
        """The card's own random state, so that the host's stays as it is."""
        generator = torch.default_generator
        before = generator.get_state()
        generator.set_state(self._random)
        try:
            yield
        finally:
            self._random = generator.get_state()
            generator.set_state(before)

    # Crossing between host and card -------------------------------------------------------------------------------

    def to_card(self, tensor: torch.Tensor, args: Any, kwargs: Any) -> torch.Tensor:
        """`tensor.to("cuda", ...)`."""
        gpu = self.gpu
        if tensor.device.type == "meta" and gpu.place_of(tensor) is Place.CARD:
            return tensor.to("meta", *args, **kwargs)
        if tensor.device.type == "meta" and gpu.place_of(tensor) is Place.META:
            raise NotImplementedError(_NO_DATA)
        return self._copy_to(Place.CARD, tensor, args, kwargs)

    def to_host(self, tensor: torch.Tensor, args: Any, kwargs: Any) -> torch.Tensor:
        """`tensor.to("cpu", ...)`: real, unless it is large and the host carries no data."""
        gpu = self.gpu
        if tensor.device.type == "meta":
            place = gpu.place_of(tensor)
            if place is Place.HOST:
                return tensor.to("meta", *args, **kwargs)
            if place is Place.META:
                raise NotImplementedError(_NO_DATA)
            if place is Place.CARD and gpu.on_host and not small(tensor):
                return self._copy_to(Place.HOST, tensor, args, kwargs)
        return tensor.to("cpu", *args, **kwargs)

    def _copy_to(self, place: Place, tensor: torch.Tensor, args: Any, kwargs: Any) -> torch.Tensor:
        dtype = dtype_among(args, kwargs)
        with self.gpu.arriving_at(place):
            copy: torch.Tensor = aten._to_copy.default(
                tensor, device=torch.device("meta"), dtype=dtype, memory_format=kwargs.get("memory_format")
            )
            return copy

    def on_cpu(self, tensor: torch.Tensor) -> torch.Tensor:
        """A real copy of `tensor` for a call that reads values."""
        known = self.asked(tensor.detach())
        if known is None:
            self.assume(f"the values of a {_described(tensor)} are unknown: zeros stand in")
            with unrecorded():
                return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
        return known

    def scalar(self, tensor: torch.Tensor) -> Any:
        """`.item()`."""
        known = self.asked(tensor)
        if known is not None:
            return known.item()
        stand_in: Any = False if tensor.dtype is torch.bool else 1.0 if tensor.is_floating_point() else 1
        if _initialises_weights():
            return stand_in
        times = self.assume(f"an unknown {_dtype(tensor)} was asked for: {stand_in} stands in")
        if stand_in is False and times >= PATIENCE:
            raise CannotRecord(
                f"{asking_line()} has asked {times:,} times for a bool that is not known: a loop that waits for it "
                "never ends",
                hint="bound the loop, or give the step inputs that the value follows from",
            )
        return stand_in

    def equal(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        """`torch.equal`."""
        known_a, known_b = self.asked(a), self.asked(b)
        if known_a is not None and known_b is not None:
            return torch.equal(known_a, known_b)
        self.assume("two tensors of unknown values were compared: taken to differ")
        return False

    def allclose(self, args: Any, kwargs: Any) -> bool:
        """`torch.allclose`."""
        known_a, known_b = self.asked(args[0]), self.asked(args[1])
        if known_a is not None and known_b is not None:
            return torch.allclose(known_a, known_b, *args[2:], **kwargs)
        self.assume("two tensors of unknown values were compared: taken to differ")
        return False

    def data_dependent(self, func: Any, args: Any, kwargs: Any, inputs: Sequence[torch.Tensor]) -> Any:
        """The result, as a real tensor, of an operator whose output shape depends on values."""
        if all(self.asked(t) is not None for t in inputs):
            return self.compute(func, args, kwargs)
        stand_in = _WHEN_UNKNOWN.get(func)
        if stand_in is None:
            raise CannotRecord(
                f"{func} at {asking_line()} makes a tensor whose size depends on values that are not known",
                hint="give the step inputs that the values follow from, or replace the call for the weighing",
            )
        what, make = stand_in
        self.assume(f"{func.overloadpacket.__name__} of unknown values: {what}")
        return make(*args, **kwargs)


_NO_DATA = (
    "Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of "
    "torch.nn.Module.to() when moving module from meta to a different device."
)
"""PyTorch's own words."""


def _tensors_of(out: Any) -> list[torch.Tensor]:
    """The tensors an operator returned; backward returns None for a gradient that nobody wants."""
    return [out] if isinstance(out, torch.Tensor) else [o for o in out if isinstance(o, torch.Tensor)]


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from (value if isinstance(value, (list, tuple)) else [value] if value is not None else [])


@cache
def _runs_on_host(func: Any) -> bool:
    """Whether there is a kernel for the CPU; attention's and cuDNN's are the card's alone."""
    keys = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional", "CompositeImplicitAutograd")
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key) for key in keys)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _described(tensor: torch.Tensor) -> str:
    return f"{_dtype(tensor)} tensor of {'x'.join(map(str, tensor.shape)) or 'one element'}"


def _triangle(func: Any, tensor: torch.Tensor, diagonal: int = 0) -> torch.Tensor:
    """`tril` and `triu`, which ATen/native/TriangularOps.cpp shares out over all cores however small they are.

    On a machine that is busy with something else its threads wait for each other for milliseconds.
    """
    rows, columns = (torch.arange(n, device="cpu") for n in tensor.shape[-2:])
    beyond = torch.lt if func is aten.triu.default else torch.gt
    return tensor.masked_fill(beyond(columns, rows.unsqueeze(1) + diagonal), 0)


def _all_nonzero(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.numel(), max(tensor.dim(), 0), dtype=torch.int64, device="meta")


_WHEN_UNKNOWN: dict[Any, tuple[str, Callable[..., torch.Tensor]]] = {
    aten.nonzero.default: ("every element is taken to be nonzero", _all_nonzero),
}
