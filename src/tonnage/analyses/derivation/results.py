"""What a person wrote, and what came of it, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, TypeVar

from msgspec import Struct

from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import ParameterForm
from tonnage.errors import EXIT_CHECK_FAILED, EXIT_OK

CauseKind = Literal[
    "slip",
    "constant",
    "left out",
    "invented",
    "twice",
    "heads",
    "does not exist",
    "tied",
    "repeats",
    "sum",
    "formula",
    "unexplained",
]
"""slip: the formula has another value than the person got. constant: a number of it should be another.
left out, invented, twice: parts of the model that the term lacks, has though the model does not, has once too often.
heads: keys and values have fewer heads than the queries, and were counted with as many.
does not exist: nothing in the model is what the term counts. tied: it is, but under a second name that adds nothing.
repeats: it occurs more or less often. sum: the total is not the sum of the terms. formula: the number is right, its
formula has another value. unexplained: the rest, for which no cause was found."""


class Term(Struct, frozen=True, kw_only=True):
    """One line of a derivation: `formula`, what the person says it comes to (None: not said), and how often it counts.

    Both are of one repeat; a bare number is a formula too.
    """

    label: str
    formula: str
    claimed: int | None = None
    times: str = "1"


class Derivation(Struct, frozen=True, kw_only=True):
    """A person's count of a model's parameters. `total` is what they say it adds up to (None: not said)."""

    terms: list[Term]
    total: int | None = None
    symbols: dict[str, int] = {}


class Cover(Struct, frozen=True, kw_only=True):
    """`count` of the components at `path` that a term counts (or that none does): all their parameters, or one kind.

    `what` is "" for all, else "weight" or "bias"; `each` is the size of one.
    """

    path: str
    what: Literal["", "weight", "bias"]
    each: int
    count: int

    @property
    def total(self) -> int:
        return self.each * self.count


class Cause(Struct, frozen=True, kw_only=True):
    """Why a number is not what it should be. `amount` is what to add to the number to put this right.

    `found` and `right` are what was written and what should have been, as text; `what` names the parts that it is
    about in a word of `labels` ("bias", "norm", "cross"), `covers` are those parts.
    """

    kind: CauseKind
    amount: int
    found: str = ""
    right: str = ""
    what: str = ""
    covers: list[Cover] = []


class CheckedTerm(Struct, frozen=True, kw_only=True):
    """A term beside what it counts. `claimed` and `true` are of all `times` repeats; `claimed` + causes = `true`."""

    label: str
    formula: str
    substituted: str
    times: int
    claimed: int
    true: int
    covers: list[Cover]
    causes: list[Cause]

    @property
    def ok(self) -> bool:
        return not self.causes

    @property
    def difference(self) -> int:
        """What to add to the claim."""
        return self.true - self.claimed


class Correction(Struct, frozen=True, kw_only=True):
    """One step from the total that was claimed to the true one; `label` is the term's, "" if it belongs to none."""

    label: str
    cause: Cause


class Checked(Struct, frozen=True, kw_only=True):
    """A derivation, checked: `claimed_total` + the amounts of `corrections` = `true_total`, with nothing left over.

    `written_sum` is the sum of the terms as claimed. `missing` are the parts that no term counts.
    """

    terms: list[CheckedTerm]
    missing: list[Cause]
    claimed_total: int
    written_sum: int
    true_total: int
    corrections: list[Correction]

    @property
    def ok(self) -> bool:
        return not self.corrections

    @property
    def exit_code(self) -> int:
        return EXIT_OK if self.ok else EXIT_CHECK_FAILED


PRIMES = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199)


def symbols_of(form: ParameterForm, own: Mapping[str, int] | None = None) -> dict[str, int]:
    """The values of all names that a formula may use: symbols, fields, and the person's own, which win."""
    return _named(form, {s.symbol: s.value for s in form.symbols}) | dict(own or {})


def elsewhere(form: ParameterForm) -> list[dict[str, Fraction]]:
    """Values that no model has, for the same names: formulas that agree on all of them say the same.

    A symbol that follows from others ("H/h") does so here too.
    """
    configurations = []
    for shift in range(3):
        primes = PRIMES[shift:] + PRIMES[:shift]
        values = {s.symbol: Fraction(primes[n % len(primes)]) for n, s in enumerate(form.symbols)}
        for symbol in form.symbols:
            if symbol.definition:
                values[symbol.symbol] = parse(symbol.definition, values).evaluate(values)
        configurations.append(_named(form, values))
    return configurations


_Value = TypeVar("_Value", int, Fraction)


def _named(form: ParameterForm, values: Mapping[str, _Value]) -> dict[str, _Value]:
    """`values` under the symbols and under the fields that they stand for."""
    return {s.field: values[s.symbol] for s in form.symbols if s.field} | dict(values)
