"""How many parameters a model has, each tensor counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod

from msgspec import Struct
from msgspec.structs import replace

from tonnage.analyses.forms import ParameterForm
from tonnage.analyses.known import Known
from tonnage.errors import BadOption
from tonnage.trace import Parameter, Trace


class ParameterCount(Struct, frozen=True, kw_only=True):
    """Elements of the parameters and buffers of a model, and the closed form that gives their number.

    `total` is `sum(p.numel() for p in model.parameters())`: a tensor under several names counts once. `tied` is
    what those further names would have added.
    `buffers` are not part of `total`; `bytes_by_dtype` and `total_bytes` are of the parameters alone, as held in the
    recorded run. `formula` is `form.formula`: "" where there is none or it was not asked for.
    """

    total: int
    trainable: int
    frozen: int
    tied: int
    buffers: int
    total_bytes: int
    buffer_bytes: int
    bytes_by_dtype: dict[str, int]
    known: Known = "exact"
    formula: str = ""
    form: ParameterForm | None = None

    def with_form(self, form: ParameterForm) -> ParameterCount:
        return replace(self, formula=form.formula, form=form)

    def evaluate(self, **fields: int) -> int:
        """The total with these fields of the config, all others as they are: see `ParameterForm.evaluate`."""
        if self.form is None:
            raise BadOption("no closed form was derived", hint="weigh with forms=True, or use tonnage.params")
        return self.form.evaluate(**fields)


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
