"""What a model is made of: the tree of its modules, repeated blocks folded, with what each holds and makes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from math import prod

import msgspec
from msgspec import Struct

from tonnage.analyses.components import Explanation, explain
from tonnage.analyses.describing import describe
from tonnage.analyses.folding import Difference, Fold, Folding
from tonnage.analyses.parts import Model, Part, Tensor, read_model
from tonnage.errors import BadOption
from tonnage.recording import Recording
from tonnage.trace import Module, Parameter

VERSION = 1
"""Of the JSON. 1 the first. Names may be added within a version, never changed."""

_FOLDED = re.compile(r"\{([\d,-]+)\}")


class Output(Struct, frozen=True, kw_only=True):
    """One tensor that a module gave back."""

    shape: tuple[int, ...]
    dtype: str


class Node(Struct, frozen=True, kw_only=True):
    """A module, or several equal ones folded into one.

    `path` has the numbers of folded blocks in braces ("encoder.layer.{0-11}.attention"); `name` is its last part.
    `repeats` are the siblings folded here, `times` the modules that the node stands for with the folds above it.
    `description` is the type with its sizes ("Linear(768 -> 3072, bias)").

    Of one of them: `own_parameters` and `parameters` (with children; a tied tensor counts where it is met first),
    `trainable_parameters`, `buffers` (elements) and `dtypes`, all with children but for the first. `share` is what all
    of them together are of the model's parameters.

    Of all of them together: `calls`, forward `macs` and `kept_bytes` (activations held for backward when the forward
    is done), the latter two with children. None is unknown: nothing was run, not for training, or no MACs were given.
    `macs_at_least` says that work without a rule is missing from `macs`. `outputs` are of the first call of the first;
    `outputs_differ` where those of other calls or of others are not the same.

    `same_as` is the path of a module that is met here again. `differences` are all there are to the siblings numbered
    `like` ("1-5"), the usual ones of the series; both are empty for the usual ones and where siblings have little in
    common.
    """

    path: str
    name: str
    type: str
    description: str
    repeats: int
    times: int
    own_parameters: int
    parameters: int
    trainable_parameters: int
    buffers: int
    share: float
    dtypes: list[str]
    outputs: list[Output] | None
    outputs_differ: bool
    calls: int | None
    macs: int | None
    macs_at_least: bool
    kept_bytes: int | None
    tensors: list[Tensor]
    children: list[Node]
    same_as: str = ""
    like: str = ""
    differences: list[Difference] = []
    explanation: Explanation | None = None

    def paths(self) -> list[str]:
        """The paths of the modules that it stands for."""
        pieces = _FOLDED.split(self.path)
        choices = [[piece] if n % 2 == 0 else _numbers(piece) for n, piece in enumerate(pieces)]
        return ["".join(chosen) for chosen in product(*choices)]


class Structure(Struct, frozen=True, kw_only=True):
    """The tree of a model and its totals: unique parameters, what second names would add, and elements of buffers.

    `kept_outside_bytes` are activations that no module made, such as those of a loss function; None as in Node.
    `name` and `ran` are what the caller says of the model and of what was run.
    """

    root: Node
    parameters: int
    tied_parameters: int
    buffers: int
    kept_outside_bytes: int | None
    name: str = ""
    ran: str = ""
    version: int = VERSION


def read_structure(
    modules: Sequence[Module],
    parameters: Sequence[Parameter],
    *,
    recording: Recording | None = None,
    macs: Mapping[str, int] | None = None,
    macs_missing: Collection[str] = (),
    name: str = "",
    ran: str = "",
) -> Structure:
    """The structure of the model that `modules` (as `blueprint.modules_of` or a trace lists them) describe.

        read_structure(modules_of(model), list(members_of(model)))
        read_structure(trace.modules, trace.parameters, recording=recording, macs={"fc": 2048000})

    `recording` is a run of that model: it tells output shapes, calls and, for training, what is kept for backward.
    `macs` are the forward MACs of the operators of each module itself, without its children, by path, in one step;
    `macs_missing` are the paths of modules of which some work has no rule. Of several models the largest is read; then
    `parameters` are to be its own.
    """
    model = read_model(modules, parameters, recording)
    reader = _Reader(model, macs, frozenset(macs_missing))
    named = [p for part in model.root.walk() for p in part.tensors]
    unique = model.root.parameters
    run = model.run
    return Structure(
        root=reader.node([model.root], Fold((0,)), "", 1),
        parameters=unique,
        tied_parameters=sum(prod(p.shape) for p in parameters if p.kind == "parameter") - unique,
        buffers=sum(prod(t.shape) for t in named if t.kind == "buffer" and not t.tied_to),
        kept_outside_bytes=run.kept_outside_bytes if run and run.kept_bytes is not None else None,
        name=name,
        ran=ran,
    )


def structure_to_json(structure: Structure) -> str:
    return msgspec.json.format(msgspec.json.encode(structure), indent=2).decode()


def select(structure: Structure, pattern: str) -> Structure:
    """The structure with only what `pattern` matches, all below it, and the way there.

    `pattern` is a glob of paths ("encoder.layer.3.*", "*.query") or of types ("Linear", "*Attention"). Numbers are
    still those of the whole model. BadOption where it matches nothing.
    """
    root = _select(structure.root, pattern)
    if root is None:
        raise BadOption(
            f"no module has a path or type like {pattern!r}",
            hint="a filter is a glob of paths or types: 'encoder.*', '*.query', Linear, '*Attention'",
        )
    return msgspec.structs.replace(structure, root=root)


def _select(node: Node, pattern: str) -> Node | None:
    if fnmatchcase(node.type, pattern) or any(fnmatchcase(path, pattern) for path in node.paths()):
        return node
    children = [kept for child in node.children if (kept := _select(child, pattern)) is not None]
    return msgspec.structs.replace(node, children=children) if children else None


class _Reader:
    """Makes nodes of the parts of one model."""

    def __init__(self, model: Model, macs: Mapping[str, int] | None, missing: frozenset[str]) -> None:
        self._model = model
        self._run = model.run
        self._folding = Folding(model)
        self._macs = None if macs is None else _with_children(model.root, macs)
        self._missing = missing
        kept = self._run.kept_bytes if self._run else None
        self._kept = None if kept is None else _with_children(model.root, kept)

    def node(self, members: Sequence[Part], fold: Fold, above: str, times: int) -> Node:
        """The node of `members`, which are the same; `above` is the path of the node they are in.

        `members` are all parts that the node stands for, those of every repeat of the nodes above it.
        """
        part = members[0]
        name = part.name if len(fold.places) == 1 else folded_name(part.name, fold.numbers)
        path = f"{above}.{name}" if above else name
        repeats = len(fold.places)
        outputs = [self._run.outputs.get(m.path) for m in members] if self._run else []
        return Node(
            path=path,
            name=name,
            type=part.type,
            description=describe(part),
            repeats=repeats,
            times=times,
            own_parameters=part.own_parameters,
            parameters=part.parameters,
            trainable_parameters=sum(t.parameters for p in part.walk() for t in p.tensors if t.trainable),
            buffers=sum(prod(t.shape) for p in part.walk() for t in p.tensors if t.kind == "buffer" and not t.tied_to),
            share=part.parameters * times / self._model.root.parameters if self._model.root.parameters else 0.0,
            dtypes=list(dict.fromkeys(t.dtype for p in part.walk() for t in p.tensors if t.kind == "parameter")),
            outputs=_outputs(outputs),
            outputs_differ=self._outputs_differ(members),
            calls=sum(self._run.calls[m.path] for m in members) if self._run else None,
            macs=None if self._macs is None else sum(self._macs[m.path] for m in members),
            macs_at_least=any(p.path in self._missing for m in members for p in m.walk()),
            kept_bytes=None if self._kept is None else sum(self._kept[m.path] for m in members),
            tensors=list(part.tensors),
            children=[
                self.node([m.children[i] for m in members for i in f.places], f, path, times * len(f.places))
                for f in self._folding.fold(part.children)
            ],
            same_as=part.same_as,
            like=number_ranges(fold.like),
            differences=list(fold.differences),
            explanation=explain(part, self._model),
        )

    def _outputs_differ(self, members: Sequence[Part]) -> bool:
        """Whether another call, or another of the members that were called, gave back something else."""
        run = self._run
        if run is None:
            return False
        made = {run.outputs[m.path] for m in members if m.path in run.outputs}
        return len(made) > 1 or any(m.path in run.varied for m in members)


def folded_name(name: str, numbers: Sequence[int]) -> str:
    """The name of several numbered siblings.

    >>> folded_name("11", [0, 1, 2, 3, 7]), folded_name("block3", [3, 4])
    ('{0-3,7}', 'block{3-4}')
    """
    return f"{name.rstrip('0123456789')}{{{number_ranges(numbers)}}}"


def number_ranges(numbers: Sequence[int]) -> str:
    """Numbers in ascending order as runs.

    >>> number_ranges([0, 1, 2, 5, 8, 9])
    '0-2,5,8-9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _numbers(ranges: str) -> list[str]:
    spans = (span.split("-") for span in ranges.split(","))
    return [str(number) for span in spans for number in range(int(span[0]), int(span[-1]) + 1)]


def _with_children(part: Part, own: Mapping[str, int]) -> dict[str, int]:
    """The sum of `own` over each part and everything below it, by path."""
    sums: dict[str, int] = {}

    def add(part: Part) -> int:
        sums[part.path] = own.get(part.path, 0) + sum(add(child) for child in part.children)
        return sums[part.path]

    add(part)
    return sums


def _outputs(found: Sequence[Sequence[tuple[tuple[int, ...], str]] | None]) -> list[Output] | None:
    first = next((outputs for outputs in found if outputs is not None), None)
    return None if first is None else [Output(shape=tuple(shape), dtype=dtype) for shape, dtype in first]
