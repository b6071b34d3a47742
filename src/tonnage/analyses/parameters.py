"""How many parameters a model has, each tensor counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import prod
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from tonnage.analyses.deferred import asked
from tonnage.analyses.forms import ParameterForm
from tonnage.analyses.known import Known
from tonnage.errors import BadOption
from tonnage.trace import Module, Parameter, Trace


class ParameterCount(Struct, frozen=True, kw_only=True, dict=True):
    """Elements of the parameters and buffers of a model, and the closed form that gives their number.

    `total` is `sum(p.numel() for p in model.parameters())`: a tensor under several names counts once. `tied` is
    what those further names would have added. `embedding` of them are looked up in tables (`nn.Embedding`, a tied head
    included), and `active` take part in the work on one token: all but the experts that a router passes over; None
    where there are no experts. `buffers` are not part of `total`; `bytes_by_dtype` and `total_bytes` are of the
    parameters alone, as held in the recorded run.
    JSON has the closed form as `form`, and its `formula`.
    """

    total: int
    trainable: int
    frozen: int
    tied: int
    embedding: int = 0
    active: int | None = None
    buffers: int
    total_bytes: int
    buffer_bytes: int
    bytes_by_dtype: dict[str, int]
    known: Known = "exact"
    written: str = field(default="", name="formula")
    derived: ParameterForm | None = field(default=None, name="form")

    @property
    def form(self) -> ParameterForm | None:
        """The closed form, derived when it is first asked for; None where nothing is known to derive it from."""
        return self.derived or asked(self)

    @property
    def formula(self) -> str:
        """The closed form of the total in symbols; where nothing can be varied, the arithmetic of its modules."""
        return (self.form.formula or self.form.arithmetic) if self.form else ""

    def evaluate(self, **fields: Any) -> int:
        """The total with these fields of the config, all others as they are: see `ParameterForm.evaluate`."""
        if self.form is None:
            raise BadOption("nothing says which sizes the parameters follow", hint="weigh the model itself")
        return self.form.evaluate(**fields)

    def settled(self) -> ParameterCount:
        """With the form derived and written down."""
        return replace(self, written=self.formula, derived=self.form)


def count_parameters(trace: Trace) -> ParameterCount:
    """The parameters and buffers that `trace` names.

    >>> from tonnage.trace import Parameter
    >>> names = [Parameter(name, (10, 4), "float32", 160, True, 1, "parameter") for name in ("embed", "head")]
    >>> counted = count_parameters(Trace(parameters=names))
    >>> counted.total, counted.tied, counted.bytes_by_dtype
    (40, 40, {'float32': 160})
    """
    named = [p for p in trace.parameters if p.kind == "parameter"]
    weights = _unique(named)
    buffers = _unique(p for p in trace.parameters if p.kind == "buffer")
    total = _elements(weights)
    trainable = _elements(p for p in weights if p.trainable)
    by_dtype: Counter[str] = Counter()
    for p in weights:
        by_dtype[p.dtype] += p.nbytes
    return ParameterCount(
        total=total,
        trainable=trainable,
        frozen=total - trainable,
        tied=_elements(named) - total,
        embedding=_elements(_in_tables(trace.modules, weights)),
        active=_active(trace.modules, weights),
        buffers=_elements(buffers),
        total_bytes=sum(by_dtype.values()),
        buffer_bytes=sum(p.nbytes for p in buffers),
        bytes_by_dtype=dict(by_dtype.most_common()),
    )


def _unique(parameters: Iterable[Parameter]) -> list[Parameter]:
    """The first name of each tensor."""
    first: dict[int, Parameter] = {}
    for p in parameters:
        first.setdefault(p.identity, p)
    return list(first.values())


def _elements(parameters: Iterable[Parameter]) -> int:
    return sum(prod(p.shape) for p in parameters)


def _in_tables(modules: Sequence[Module], weights: Sequence[Parameter]) -> Iterator[Parameter]:
    tables = {f"{module.path}.weight".removeprefix(".") for module in modules if "num_embeddings" in module.facts}
    return (p for p in weights if p.name in tables)


def _active(modules: Sequence[Module], weights: Sequence[Parameter]) -> int | None:
    """All weights less those of the experts that a token is not sent to; None without experts, or with unknown ones."""
    total, idle, found = _elements(weights), Fraction(), False
    for module in modules:
        if module.path.rpartition(".")[2] != "experts":
            continue
        experts = module.facts.get("num_experts") or len(_children(module, modules))
        chosen = _chosen(module.path.rpartition(".")[0], modules)
        if not experts or chosen is None:
            return None
        found = True
        held = _elements(p for p in weights if p.name.startswith(f"{module.path}."))
        idle += held * Fraction(experts - chosen, experts)
    return int(total - idle) if found else None


def _children(module: Module, modules: Sequence[Module]) -> set[str]:
    prefix = f"{module.path}."
    return {m.path.removeprefix(prefix).partition(".")[0] for m in modules if m.path.startswith(prefix)}


def _chosen(block: str, modules: Sequence[Module]) -> int | None:
    """How many experts the router in `block` sends a token to."""
    for module in modules:
        if module.path == block or module.path.startswith(f"{block}."):
            for name in _CHOSEN:
                if isinstance(module.facts.get(name), int):
                    return int(module.facts[name])
    return None


_CHOSEN = ("top_k", "num_experts_per_tok", "num_selected_experts")
"""Names of the number of experts per token in transformers' routers and blocks."""
