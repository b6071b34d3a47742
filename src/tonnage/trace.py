"""The trace: which operators ran, where in the model, on what shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

PHASES = ("setup", "forward", "backward", "optimizer")
ROOT = 0
"""The module index of what runs outside of every module."""


class TensorSpec(NamedTuple):
    """Shape and element type of one tensor, such as ((8, 128), "int64")."""

    shape: tuple[int, ...]
    dtype: str


class Op(NamedTuple):
    """One operator as the dispatcher saw it.

    `name` is the full overload ("aten.addmm.default"); `module` and `phase` are indices into `Trace.modules` and
    PHASES; `inputs` and `outputs` are its tensors in order, those inside lists included; `arguments` are its
    other arguments in order, tensors left out as None.
    """

    name: str
    module: int
    phase: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arguments: tuple[Any, ...] = ()


class Module(NamedTuple):
    """A module: its path from the module the user called ("" for that one), its class and the module it is defined in.

    `facts` are its plain attributes as its constructor left them, such as {"in_features": 768, "out_features": 3072}.
    """

    path: str
    type: str
    origin: str = ""
    facts: dict[str, Any] = {}  # noqa: RUF012  (a default that nobody writes to)


class Call(NamedTuple):
    """One call of a module: the operators from `begin` to before `end` ran in it or in its children."""

    module: int
    begin: int
    end: int
    outputs: tuple[TensorSpec, ...]


class Mark(NamedTuple):
    """A named instant: operator `op` is the first that ran after it."""

    name: str
    op: int


class Parameter(NamedTuple):
    """One parameter or buffer under one of its names.

    `identity` is equal for names of the same tensor, so tied weights count once. `kind` is "parameter" or
    "buffer".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    trainable: bool
    identity: int
    kind: str


@dataclass
class Trace:
    """Operators in order, the modules they ran in, and the parameters and buffers of the model.

    `modules` has every module of the model in the order of `named_modules`, after ROOT; `calls` are in the order in
    which they ended.
    """

    ops: list[Op] = field(default_factory=list)
    modules: list[Module] = field(default_factory=lambda: [Module("", "")])
    parameters: list[Parameter] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def module_path(self, op: int) -> str:
        """The path of the module that operator `op` ran in; "" for none."""
        return self.modules[self.ops[op].module].path if op >= 0 else ""
