"""The search for a form: derive, prove, and where the proof fails find what it fails in and try without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import prod
from typing import NamedTuple

import sympy

from tonnage.analyses.closed_form.definitions import Definition, define
from tonnage.analyses.closed_form.derive import Derived, derive, derive_alike, total_of
from tonnage.analyses.closed_form.dividing import divisions
from tonnage.analyses.closed_form.edges import least_sizes
from tonnage.analyses.closed_form.proving import Trial, prove, prove_alone, same_kind
from tonnage.analyses.closed_form.survey import Ask, Changes, Direction, Table
from tonnage.analyses.closed_form.symbols import is_width

_MOST_PAIRED = 12
"""Sizes that are made equal to each other, two at a time, to see whether that makes another model."""
_USUAL = ("bias", "tie")
"""Parts of the names of flags that people do switch; what these add is worked out first."""
_MOST_LOOKED_AT = 30
"""Flags times sizes that are looked at: of a model with many sizes few flags, so that it stays a matter of seconds."""
_ROUNDS = 5
"""How often a form whose proof fails is tried again without the size that it fails in."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about: its sizes, and its tables of parameters and their shapes at other sizes.

    `following` are sizes that follow from `sizes` unless they are given; `follow` answers what they are at other sizes.
    `flags` are switches by name, each with its value; `aliases` are other names that sizes go by. `what` is counted.
    """

    sizes: Mapping[str, int]
    ask: Ask
    following: Mapping[str, int] = field(default_factory=dict)
    follow: Callable[[Changes], Mapping[str, int] | None] = lambda changes: {}
    flags: Mapping[str, bool] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    what: str = "parameters"


@dataclass(frozen=True)
class Found:
    """A derivation with the definitions of the sizes that follow from others."""

    derived: Derived
    definitions: Mapping[str, Definition]
    sizes: Mapping[str, int]
    dividing: Sequence[tuple[str, str]]
    """Pairs of sizes of which the second has to divide the first."""
    apart: Sequence[tuple[str, str]] = ()
    """Pairs of sizes that must not be equal."""
    least: Mapping[str, int] = field(default_factory=dict)
    """Sizes below which the form does not hold."""

    def predict(self, changes: Changes) -> int | None:
        """The count at `changes`; None where the form does not hold: too small, equal, or no whole number."""
        sizes = {**self.sizes, **changes}
        for name, definition in self.definitions.items():
            if name not in changes:
                value = definition.value(sizes)
                if value is None:
                    return None
                sizes[name] = value
        if any(sizes[name] < size for name, size in self.least.items()):
            return None
        if any(sizes[one] == sizes[other] for one, other in self.apart):
            return None
        if any(sizes[whole] % sizes[divisor] for whole, divisor in self.dividing):
            return None
        numbers = {symbol: sympy.Integer(sizes[name]) for name, symbol in self.derived.symbols.items()}
        total = 0
        for part in self.derived.parts:
            factors = [e.xreplace(numbers) for e in (part.times, *part.numbers)]
            if not all(factor.is_Integer for factor in factors):
                return None
            total += prod(map(int, factors))
        return total


@dataclass(frozen=True)
class Limits:
    """Where the form does not hold: sizes that must not be equal, and flags, with what to add under the other value.

    What a flag adds is None where it is no polynomial of the same sizes.
    """

    apart: list[tuple[str, str]]
    switches: Mapping[str, sympy.Expr | None]


class Result(NamedTuple):
    """The form that was found, the sizes that it holds fixed with the reasons, its trials, and its limits.

    `reason` is why there is no form, "" where there is one.
    """

    found: Found
    held: dict[str, str]
    trials: list[Trial]
    limits: Limits
    reason: str = ""


def search(question: Question) -> Result:
    """Looks for the form until it holds at sizes that it was not derived from.

    A size with which the proof fails is held fixed, with the counterexample as the reason, unless it fails just where
    that size does not divide another one, or is equal to it.
    """
    question = replace(question, ask=_remembering(question.ask))
    definitions = define(question.sizes, _that_matter(question), question.follow)
    fixed = {name: question.following[name] for name in definitions}
    sizes = {**question.sizes, **fixed}
    held: dict[str, str] = {}
    dividing: list[tuple[str, str]] = []
    apart: list[tuple[str, str]] = []
    derived = None
    for _ in range(_ROUNDS):
        if derived is None:
            asked = {name: size for name, size in sizes.items() if name not in held}
            derived = derive(lambda changes: question.ask({**fixed, **changes}), asked)
        found = Found(derived, definitions, sizes, tuple(dict.fromkeys((*_divisions(derived), *dividing))), apart)
        found = replace(found, least=least_sizes(derived, found.predict))
        trials = [*prove(derived, question.ask, found.predict), *prove_alone(derived, question.ask, found.predict)]
        wrong = next((trial for trial in trials if trial.predicted != trial.counted), None)
        if wrong is None:
            limits = Limits(apart=[*apart, *_apart(found)], switches=_switches(question, found))
            return Result(found, {**held, **derived.held}, trials, limits)
        why = _guilty(question, found, wrong)
        divisors = [pair for name in why if (pair := _divides(found, name, wrong.changes[name])) is not None]
        dividing += divisors
        equals = [pair for name in why if (pair := _equals(found, name, wrong.changes[name])) is not None]
        if not divisors:
            apart += equals
        if not divisors and not equals:
            held |= why
            derived = None
    return _without_sizes(question, held)


def _without_sizes(question: Question, held: Mapping[str, str]) -> Result:
    """What is left where no form was proved: the numbers of this model, and why there are no others."""
    derived = derive(question.ask, {})
    reason = "no polynomial of its sizes was proved"
    all_held = {name: held.get(name, reason) for name in question.sizes}
    return Result(Found(derived, {}, question.sizes, ()), all_held, [], Limits(apart=[], switches={}), reason)


def _apart(found: Found) -> list[tuple[str, str]]:
    """Pairs of sizes that make another architecture where they are equal, and not where they are not."""
    directions = [d for d in found.derived.directions if not d.repeats and len(d.moved) == 1]
    pairs = combinations(directions[:_MOST_PAIRED], 2)
    return [(one.field, other.field) for one, other in pairs if _other_where_equal(found, one, other)]


def _other_where_equal(found: Found, one: Direction, other: Direction) -> bool:
    """Whether `one` at the value of `other`, or the other way round if that cannot be built, makes another model."""
    survey = found.derived.survey
    for moved, equal in ((one, other.levels[0]), (other, one.levels[0])):
        if equal in moved.levels:
            return False
        table = survey.near({moved.field: equal})
        if table is not None:
            break
    if table is None or _is_right(found, moved, equal, table):
        return False
    beside = survey.near({moved.field: 2 * equal})
    return beside is not None and _is_right(found, moved, 2 * equal, beside)


def _is_right(found: Found, moved: Direction, value: int, table: Table) -> bool:
    survey = found.derived.survey
    return found.predict({**survey.sizes, **survey.settled, moved.field: value}) in (None, total_of(table))


def _switches(question: Question, found: Found) -> dict[str, sympy.Expr | None]:
    """The flags without which something else would be counted, and what is then to be added."""
    fixed = {name: found.sizes[name] for name in found.definitions}
    switches: dict[str, sympy.Expr | None] = {}
    for name in _that_switch(question, found, {**fixed, **found.derived.survey.settled}):
        switched = {name: not question.flags[name]}
        looked_at = (len(switches) + 1) * len(found.derived.directions)
        added = _difference(question, found, {**fixed, **switched}, switched) if looked_at <= _MOST_LOOKED_AT else None
        switches[name] = added
    return switches


def _that_switch(question: Question, found: Found, at: Changes) -> list[str]:
    """The flags that matter, those that people do switch first: halved until what is left changes nothing."""
    base = found.derived.survey.near({})

    def among(names: list[str]) -> list[str]:
        table = question.ask({**at, **{name: not question.flags[name] for name in names}}) if names else base
        if table == base or (table is None and len(names) == 1):
            return []
        half = len(names) // 2
        return names if len(names) == 1 else [*among(names[:half]), *among(names[half:])]

    return sorted(among(list(question.flags)), key=lambda flag: not any(part in flag for part in _USUAL))


def _difference(question: Question, found: Found, fixed: Changes, switched: Changes) -> sympy.Expr | None:
    """What a flag adds, proved at configurations that neither form was derived from; None where nothing is proved."""
    derived = derive_alike(lambda changes: question.ask({**fixed, **changes}), found.derived)
    if derived is None:
        return None
    trials = prove(
        derived, lambda changes: question.ask({**switched, **changes}), replace(found, derived=derived).predict
    )
    proved = trials and all(trial.predicted == trial.counted for trial in trials)
    return sympy.expand(derived.total - found.derived.total) if proved else None


def _divisions(derived: Derived) -> Iterator[tuple[str, str]]:
    for part in derived.parts:
        for number in part.numbers:
            yield from divisions(number, derived.survey.sizes)


def _remembering(ask: Ask) -> Ask:
    """`ask`, with each answer kept: a form that is tried again asks mostly the same."""
    known: dict[frozenset[tuple[str, int]], Table | None] = {}

    def answer(changes: Changes) -> Table | None:
        key = frozenset(changes.items())
        if key not in known:
            known[key] = ask(changes)
        return known[key]

    return answer


def _that_matter(question: Question) -> dict[str, int]:
    """The following sizes that something else follows in turn."""
    base = question.ask({})
    return {n: size for n, size in question.following.items() if question.ask({n: 2 * size}) not in (None, base)}


def _guilty(question: Question, found: Found, wrong: Trial) -> dict[str, str]:
    """The sizes with which alone the form is wrong; all of the trial's if it takes several."""
    why = {}
    for name, value in wrong.changes.items():
        table, predicted = question.ask({name: value}), found.predict({name: value})
        if table is None or predicted is None or not same_kind(found.derived, table):
            continue
        if predicted != total_of(table):
            counted = total_of(table)
            why[name] = f"at {value:,} there are {counted:,} {question.what}, and a polynomial gives {predicted:,}"
    changed = ", ".join(f"{name}={value}" for name, value in wrong.changes.items())
    together = f"with {changed} there are {wrong.counted:,} {question.what}, and a polynomial gives {wrong.predicted:,}"
    return why or dict.fromkeys(wrong.changes, together)


def _equals(found: Found, name: str, value: int) -> tuple[str, str] | None:
    """The size that `name` is equal to at `value`: what joins the two is not there then."""
    fields = [direction.field for direction in found.derived.directions if not direction.repeats]
    if name not in fields:
        return None
    return next(((name, other) for other in fields if found.sizes[other] == value and other != name), None)


def _divides(found: Found, name: str, value: int) -> tuple[str, str] | None:
    """The width that the number of heads `name` divides in the model and does not at `value`.

    There libraries round or refuse, and no model is built so.
    """
    own = found.sizes[name]
    part, index = name.rpartition(".")[0], name.partition("[")[2]
    widths = [
        (other.partition("[")[2] != index, size, other)
        for other, size in found.sizes.items()
        if is_width(other) and other.rpartition(".")[0] == part and size % own == 0 and size % value
    ]
    return (min(widths)[2], name) if widths and "head" in name else None
