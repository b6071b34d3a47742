"""The multiply-accumulates of a forward pass as a polynomial of batch, length and image side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import sympy
from msgspec.structs import replace

from tonnage.analyses.closed_form.fitting import NoFit, fit
from tonnage.analyses.closed_form.latex import latex_of
from tonnage.analyses.closed_form.survey import Direction
from tonnage.analyses.closed_form.writing import nested
from tonnage.analyses.forms import ComputeForm, Proof, Step, Symbol
from tonnage.analyses.side_form import Products, side_formula

PROOFS = 10
"""Sizes that a form is held against, none of which it was derived from."""
_TRIES = 60
_STEPS = (32, 14, 16, 64, 56, 224)
"""Steps of an image side that are tried: what usual strides and patches divide, and Swin's windows with them."""

Macs = Callable[[Mapping[str, int]], int | None]
"""The multiply-accumulates at these sizes; None where the model does not take them."""


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


def derive_compute(products: Products, sizes: list[Size]) -> ComputeForm:
    """The form of the work in `products`, proved at PROOFS sizes that it was not derived from.

    A size in which the work is no polynomial, nor a sum of squares of rounded sides, is looked at in steps, and held at
    its value where that gives none either.
    """
    base = {size.symbol: size.value for size in sizes}

    def macs(point: Mapping[str, int]) -> int | None:
        found = products(point)
        return None if found is None else sum(product.macs for product in found)

    if macs(base) is None:
        return _none("the model could not be run a second time")
    return _of_sides(products, macs, sizes, base) or _polynomial(macs, sizes, base)


def _of_sides(products: Products, macs: Macs, sizes: list[Size], base: Mapping[str, int]) -> ComputeForm | None:
    formula = side_formula(products, base)
    if not formula:
        return None
    form = _unproved(formula, sizes, [], {})
    proofs = list(_prove(form, macs, sizes, dict.fromkeys(base, 1)))
    return replace(form, proofs=proofs) if all(proof.holds for proof in proofs) else None


def _polynomial(macs: Macs, sizes: list[Size], base: Mapping[str, int]) -> ComputeForm:
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
    stepped = [s for s in free if steps[s.symbol] > 1]
    limits = [Step(symbol=s.symbol, step=steps[s.symbol], offset=s.value % steps[s.symbol]) for s in stepped]
    return _unproved(nested(polynomial, "B"), free, limits, held)


def _unproved(formula: str, free: list[Size], steps: list[Step], held: Mapping[str, str]) -> ComputeForm:
    symbols = [Symbol(symbol=size.symbol, field=size.name, value=size.value) for size in free]
    return ComputeForm(
        formula=formula, latex=latex_of(formula), symbols=symbols, steps=steps, proofs=[], held=dict(held)
    )


def _none(reason: str) -> ComputeForm:
    return ComputeForm(formula="", latex="", symbols=[], steps=[], proofs=[], held={}, reason=reason)


def agreeing(form: ComputeForm, macs: int) -> ComputeForm:
    """`form`, or none where it does not give the `macs` that were recorded."""
    if form.formula and form.evaluate() != macs:
        return _none(f"a pass on its own takes {form.evaluate():,} MACs and not {macs:,}")
    return form


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
