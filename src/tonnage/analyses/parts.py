"""A model as a tree of parts, each with its tensors and with what a run showed of it. Nothing is folded here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

from msgspec import Struct

from tonnage.ledger import NO_OP, Category
from tonnage.recording import Recording
from tonnage.trace import Call, Module, Parameter, TensorSpec, Trace

FORWARD_DONE = "forward done"
"""How the marks end that say so, in inference and in each training step."""


class Tensor(Struct, frozen=True, kw_only=True):
    """A parameter or buffer of a module under its name there.

    `parameters` are its elements as they count: 0 for a buffer, and 0 under every name but the first of a tensor that
    has several; that first name is then `tied_to`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    trainable: bool
    parameters: int
    tied_to: str = ""


@dataclass(frozen=True)
class Part:
    """A module, its own tensors and its children in order.

    `same_as` is not "" for a module that is met a second time: the path it was met at first. It then has no tensors
    and no children of its own.
    """

    module: Module
    tensors: tuple[Tensor, ...] = ()
    children: tuple[Part, ...] = ()
    same_as: str = ""

    @property
    def path(self) -> str:
        return self.module.path

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def type(self) -> str:
        return self.module.type

    @property
    def facts(self) -> dict[str, Any]:
        return self.module.facts

    @cached_property
    def by_name(self) -> dict[str, Part]:
        return {child.name: child for child in self.children}

    @cached_property
    def parameters(self) -> int:
        """Elements of the parameters in it and below, each tensor where it is met first."""
        return self.own_parameters + sum(child.parameters for child in self.children)

    @cached_property
    def own_parameters(self) -> int:
        return sum(tensor.parameters for tensor in self.tensors)

    def tensor(self, name: str) -> Tensor | None:
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    def walk(self) -> Iterator[Part]:
        """The part and everything below it, in the order of `named_modules`."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Run:
    """What a run showed of each module, by path: in the forward of its last step.

    `inputs` and `outputs` are the tensors that the first operator of its first call took and that this call gave back;
    `varied` are the modules that gave back something else in another call.
    `kept_bytes` are the activations that its own operators left for backward; None without a training step.
    """

    inputs: dict[str, tuple[TensorSpec, ...]]
    outputs: dict[str, tuple[TensorSpec, ...]]
    calls: Counter[str]
    varied: frozenset[str] = frozenset()
    kept_bytes: Counter[str] | None = None
    kept_outside_bytes: int = 0


@dataclass(frozen=True)
class Model:
    """The tree, a look-up in it by path, and the run if there was one."""

    root: Part
    run: Run | None = None
    parts: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Part, run: Run | None = None) -> Model:
        return cls(root, run, {part.path: part for part in root.walk()})

    def parent(self, part: Part) -> Part | None:
        return self.parts[part.path.rpartition(".")[0]] if part.path else None

    def input_shape(self, part: Part) -> tuple[int, ...] | None:
        return self._shape(self.run.inputs, part) if self.run else None

    def output_shape(self, part: Part) -> tuple[int, ...] | None:
        return self._shape(self.run.outputs, part) if self.run else None

    @staticmethod
    def _shape(specs: dict[str, tuple[TensorSpec, ...]], part: Part) -> tuple[int, ...] | None:
        found = specs.get(part.path)
        return tuple(found[0].shape) if found else None


def read_model(modules: Sequence[Module], parameters: Sequence[Parameter], recording: Recording | None = None) -> Model:
    """The tree of the largest model among `modules`, and what `recording` (of that model) shows of it."""
    known = {path: modules[number] for number, path in _model_of(modules).items()}
    children: defaultdict[str, list[str]] = defaultdict(list)
    for path in known:
        if path:
            children[path.rpartition(".")[0]].append(path)
    tensors, seconds = _tensors(parameters, known)
    for path in seconds:
        children[path.rpartition(".")[0]].append(path)

    def part(path: str) -> Part:
        if path in seconds:
            first = seconds[path]
            return Part(known[first]._replace(path=path), same_as=first)
        return Part(known[path], tuple(tensors[path]), tuple(part(child) for child in children[path]))

    return Model.of(part(""), _run(recording) if recording is not None else None)


def _model_of(modules: Sequence[Module]) -> dict[int, str]:
    """The paths of the modules of the largest model, by number.

    A trace lists the modules of each model in a row, beginning with "". ROOT, what a model made while it ran and a
    part that was called by itself before are rows of their own.
    """
    models: list[dict[int, str]] = []
    for number, module in enumerate(modules):
        if not module.path or not models:
            models.append({})
        models[-1][number] = module.path
    return max((paths for paths in models if modules[next(iter(paths))].type), key=len)


def _tensors(
    parameters: Iterable[Parameter], known: dict[str, Module]
) -> tuple[defaultdict[str, list[Tensor]], dict[str, str]]:
    """The tensors of each module, and the second paths of modules that are met twice, each with the first."""
    first: dict[int, str] = {}
    tensors: defaultdict[str, list[Tensor]] = defaultdict(list)
    seconds: dict[str, str] = {}
    for p in parameters:
        met = first.setdefault(p.identity, p.name)
        owner, _, name = p.name.rpartition(".")
        if owner not in known:
            path = _topmost_unknown(owner, known)
            below = p.name[len(path) :]
            if met.removesuffix(below) in known:
                seconds.setdefault(path, met.removesuffix(below))
                continue
            owner = path.rpartition(".")[0]  # a module that nobody listed: what it holds is shown above it
            name = p.name[len(owner) + 1 :] if owner else p.name
        counts = p.kind == "parameter" and met == p.name
        tensors[owner].append(
            Tensor(
                name=name,
                shape=tuple(p.shape),
                dtype=p.dtype,
                kind=p.kind,
                trainable=p.trainable,
                parameters=prod(p.shape) if counts else 0,
                tied_to="" if met == p.name else met,
            )
        )
    return tensors, seconds


def _topmost_unknown(path: str, known: dict[str, Module]) -> str:
    while (above := path.rpartition(".")[0]) not in known:
        path = above
    return path


def _run(recording: Recording) -> Run:
    trace = recording.trace
    paths = _model_of(trace.modules)
    begin, end = last_forward(trace)
    inputs: dict[str, tuple[TensorSpec, ...]] = {}
    outputs: dict[str, tuple[TensorSpec, ...]] = {}
    calls: Counter[str] = Counter()
    varied: set[str] = set()
    for call in trace.calls:
        path = paths.get(call.module)
        if path is None or not begin <= call.begin <= call.end <= end:
            continue
        calls[path] += 1
        if calls[path] == 1:
            outputs[path] = call.outputs
            inputs[path] = _inputs(trace, call)
        elif outputs[path] != call.outputs:
            varied.add(path)
    kept = _kept(recording, paths)
    seen = Run(inputs, outputs, calls, frozenset(varied))
    if kept is None:
        return seen
    of_modules = Counter({path: size for path, size in kept.items() if path is not None})
    return replace(seen, kept_bytes=of_modules, kept_outside_bytes=kept[None])


def _inputs(trace: Trace, call: Call) -> tuple[TensorSpec, ...]:
    own = (op for op in trace.ops[call.begin : call.end] if op.module == call.module and op.inputs)
    return next((op.inputs for op in own), ())


def last_forward(trace: Trace) -> tuple[int, int]:
    """Where the forward of the last step begins and ends, as indices of operators; the whole trace without marks."""
    done = [number for number, mark in enumerate(trace.marks) if mark.name.endswith(FORWARD_DONE)]
    if not done:
        return 0, len(trace.ops)
    before = trace.marks[done[-1] - 1].op if done[-1] else 0
    return before, trace.marks[done[-1]].op


def _kept(recording: Recording, paths: Mapping[int, str]) -> Counter[str | None] | None:
    """The bytes of activations alive when the last forward of training was done, by the module of their operator.

    Those of operators outside the model (a loss function) are under None.
    """
    ledger, trace = recording.ledger, recording.trace
    steps = [at for name, at in ledger.mark_positions() if name.startswith("step ") and name.endswith(FORWARD_DONE)]
    if not steps:
        return None
    kept: Counter[str | None] = Counter()
    for number in ledger.live(steps[-1]):
        if ledger.categories[number] == Category.ACTIVATION:
            op = ledger.ops[number]
            kept[paths.get(trace.ops[op].module) if op != NO_OP else None] += ledger.sizes[number]
    return kept
