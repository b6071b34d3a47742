"""The multiply-accumulates of a forward pass as a polynomial of batch, length and image side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import sympy
from msgspec import Struct
from msgspec.structs import replace

from tonnage.analyses.closed_form.fitting import NoFit, fit
from tonnage.analyses.closed_form.survey import Direction
from tonnage.analyses.closed_form.writing import latex_of, nested
from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import Proof, Symbol
from tonnage.analyses.known import Known
from tonnage.errors import BadOption

PROOFS = 10
"""Sizes that a form is held against, none of which it was derived from."""
_TRIES = 60
_STEPS = (32, 14, 16, 64, 56, 224)
"""Steps of an image side that are tried: what usual strides and patches divide, and Swin's windows with them."""

Macs = Callable[[Mapping[str, int]], int | None]
"""The multiply-accumulates at these sizes; None where the model does not take them."""


class Step(Struct, frozen=True, kw_only=True):
    """A size that the form holds for in steps: `symbol` less `offset` has to be a multiple of `step`."""

    symbol: str
    step: int
    offset: int = 0

    def __str__(self) -> str:
        less = f" - {self.offset}" if self.offset else ""
        return f"({self.symbol}{less})/{self.step}" if less else f"{self.symbol}/{self.step}"


class ComputeForm(Struct, frozen=True, kw_only=True):
    """The multiply-accumulates of one forward pass in closed form.

        form.evaluate(B=8, S=512)

    `symbols` are the sizes of the input: B samples, S tokens each, T tokens of the decoder, n pixels to a side.
    `steps` limit the sizes for which it holds. `formula` is "" where no polynomial counts the work; `reason` says why.
    """

    formula: str
    latex: str
    symbols: list[Symbol]
    steps: list[Step]
    proofs: list[Proof]
    held: dict[str, str]
    reason: str = ""
    known: Known = "exact"

    @property
    def proved(self) -> bool:
        return bool(self.proofs) and all(proof.holds for proof in self.proofs)

    def evaluate(self, **sizes: int) -> int:
        """Forward MACs at these sizes, by symbol or by name (`B` or `batch`); all others as they were recorded."""
        if not self.formula:
            raise BadOption(f"the work has no closed form: {self.reason}", hint="weigh it at that size")
        by_name = {symbol.field: symbol.symbol for symbol in self.symbols}
        values = {symbol.symbol: symbol.value for symbol in self.symbols}
        for name, size in sizes.items():
            letter = by_name.get(name, name)
            if letter not in values:
                known = ", ".join(f"{s.symbol} ({s.field})" for s in self.symbols)
                raise BadOption(f"the formula has no {name!r}", hint=f"it has {known}")
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise BadOption(f"{name} must be a whole number of at least 1, not {size!r}", hint=f"try {name}=1")
            values[letter] = size
        for step in self.steps:
            if (values[step.symbol] - step.offset) % step.step:
                raise BadOption(
                    f"the formula holds where {step} is a whole number, and {step.symbol} is {values[step.symbol]}",
                    hint="weigh it at that size",
                )
        return int(parse(self.formula).evaluate(values))


@dataclass(frozen=True)
class Size:
    """One size of the input: its letter, what it is called, its value, and the steps to try it in."""

    symbol: str
    name: str
    value: int
    steps: tuple[int, ...] = (1,)

    def levels(self, step: int) -> tuple[int, ...]:
        """Values to look at, its own first."""
        if step > 1:
            wanted = [self.value + step * k for k in (0, -1, 1, -2, 2, -3, 3)]
        elif self.value < 8:
            wanted = [self.value, *(n for n in range(1, 8) if n != self.value)]
        else:
            wanted = [self.value * k // 8 for k in (8, 4, 2, 6, 3, 5)]
        return tuple(level for level in wanted if level > 0)[:6]


def derive_compute(macs: Macs, sizes: list[Size]) -> ComputeForm:
    """The form of `macs`, proved at PROOFS sizes that it was not derived from.

    A size in which the work is no polynomial, not even in steps, is held at its value.
    """
    base = {size.symbol: size.value for size in sizes}
    known: dict[tuple[int, ...], int | None] = {}

    def at(point: Mapping[str, int]) -> int | None:
        full = {**base, **point}
        key = tuple(full.values())
        if key not in known:
            known[key] = macs(full)
        return known[key]

    held: dict[str, str] = {}
    steps = {size.symbol: size.steps[0] for size in sizes}
    while True:
        free = [size for size in sizes if size.symbol not in held]
        symbols = {size.symbol: sympy.Symbol(size.symbol, positive=True, integer=True) for size in free}
        directions = [Direction(s.symbol, {s.symbol: s.value}, s.levels(steps[s.symbol])) for s in free]
        failed = ""
        try:
            polynomial = fit(at, directions, symbols)
        except NoFit as error:
            failed = error.field
        else:
            form = _form(polynomial, free, steps, held)
            proofs = list(_prove(form, at, free, steps))
            wrong = next((proof for proof in proofs if not proof.holds), None)
            if wrong is None:
                return replace(form, proofs=proofs)
            failed = _culprit(form, at, base, wrong)
        size = next(size for size in free if size.symbol == failed)
        later = size.steps[size.steps.index(steps[failed]) + 1 :]
        if later:
            steps[failed] = later[0]
        else:
            held[failed] = f"the work at other {size.name}s is no polynomial of it"


def image_steps() -> tuple[int, ...]:
    return _STEPS


def _form(polynomial: sympy.Expr, free: list[Size], steps: Mapping[str, int], held: Mapping[str, str]) -> ComputeForm:
    formula = nested(polynomial, "B")
    return ComputeForm(
        formula=formula,
        latex=latex_of(formula),
        symbols=[Symbol(symbol=size.symbol, field=size.name, value=size.value) for size in free],
        steps=[
            Step(symbol=s.symbol, step=steps[s.symbol], offset=s.value % steps[s.symbol])
            for s in free
            if steps[s.symbol] > 1
        ],
        proofs=[],
        held=dict(held),
    )


def _prove(form: ComputeForm, at: Macs, free: list[Size], steps: Mapping[str, int]) -> Iterator[Proof]:
    random, found = Random(0), 0
    for _ in range(_TRIES):
        if found == PROOFS or not free:
            return
        point = {size.symbol: _draw(size, steps[size.symbol], random) for size in free}
        counted = at(point)
        if counted is not None:
            found += 1
            yield Proof(changes=point, predicted=form.evaluate(**point), counted=counted)


def _draw(size: Size, step: int, random: Random) -> int:
    if step == 1:
        return random.randint(1, max(2 * size.value, 9))
    most = 2 * size.value // step
    return size.value % step + step * random.randint(1, max(most, 2))


def _culprit(form: ComputeForm, at: Macs, base: Mapping[str, int], wrong: Proof) -> str:
    """The size with which alone the form is wrong; the last one if none is."""
    for symbol, value in wrong.changes.items():
        counted = at({**base, symbol: value})
        if counted is not None and counted != form.evaluate(**{**base, symbol: value}):
            return symbol
    return list(wrong.changes)[-1]
