"""Why a term has another value than what it counts: causes that make up for the difference exactly, or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice, product
from math import gcd

from tonnage.analyses.derivation.parts import Part, blocks_of
from tonnage.analyses.derivation.results import CauseKind
from tonnage.analyses.expressions import Expression
from tonnage.errors import BadOption

MOST_CHOICES = 256
"""Of sets of output sides that are tried for biases that the model does not have."""
LARGEST_FACTOR = 64
"""Up to this a number is taken for a factor that a person counted (the 4 of 4H^2), not for a size."""


@dataclass(frozen=True)
class Suspect:
    """A mistake that may have been made: `amount` puts it right; `parts` are those it is about."""

    kind: CauseKind
    amount: int
    what: str = ""
    parts: tuple[Part, ...] = ()
    found: str = ""
    right: str = ""


@dataclass(frozen=True)
class Written:
    """A term as numbers: its formula, the values of the names in it, and how often it counts."""

    expression: Expression
    values: Mapping[str, int]
    times: int | Fraction
    own: frozenset[str] = frozenset()

    @property
    def value(self) -> Fraction:
        return self.expression.evaluate(self.values) * self.times

    def at(self, values: Mapping[str, Fraction]) -> Fraction:
        """The value with other values for the names that are not the person's own."""
        own = {name: Fraction(self.values[name]) for name in self.own}
        return self.expression.evaluate({**values, **own}) * self.times

    def scaled(self, factor: Fraction) -> Written:
        return Written(self.expression, self.values, self.times * factor, self.own)

    def with_number(self, place: int, number: int) -> Fraction | None:
        """The value with another number at this place; None if that makes none, as a large exponent does."""
        try:
            return self.expression.with_number(place, number).evaluate(self.values) * self.times
        except BadOption:
            return None


GROUPS: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (
    ("bias", frozenset(), frozenset({"norm"})),
    ("attention bias", frozenset({"attention"}), frozenset({"norm"})),
    ("cross attention bias", frozenset({"cross"}), frozenset({"norm"})),
    ("ffn bias", frozenset({"ffn"}), frozenset({"norm"})),
    ("norm bias", frozenset({"norm"}), frozenset()),
)
"""Biases that people forget or invent together: a name, the roles they have and those they have not."""
WHOLE = ("norm", "position", "cross", "attention", "ffn", "segment", "token", "pooler", "head")
"""Roles whose parts people leave out together."""


def left_out(parts: Sequence[Part]) -> list[Suspect]:
    """What a count of `parts` may lack, the commonest first; not all of it."""
    named: dict[tuple[Part, ...], str] = {}
    for name, has, lacks in GROUPS:
        named.setdefault(_chosen(parts, has, lacks, bias=True), name)
    for role in WHOLE:
        named.setdefault(_chosen(parts, frozenset({role}), frozenset({"norm"} - {role})), role)
    for component in dict.fromkeys(part.path for part in parts):
        named.setdefault(tuple(part for part in parts if part.path == component), "")
    return [
        Suspect("left out", sum(part.total for part in group), name, group)
        for group, name in named.items()
        if 0 < len(group) < len(parts)
    ]


def omitted(parts: Sequence[Part], target: int) -> list[Part] | None:
    """What to leave out of `parts` for `target` elements to be left: nothing, or one or two groups; None for none."""
    surplus = sum(part.total for part in parts) - target
    if surplus == 0:
        return []
    named = [suspect for suspect in left_out(parts) if suspect.what]
    found = _first(named, 1, surplus) or _first(named, 2, surplus)
    return [part for suspect in found for part in suspect.parts] if found else None


def _chosen(
    parts: Sequence[Part], has: frozenset[str], lacks: frozenset[str], *, bias: bool = False
) -> tuple[Part, ...]:
    return tuple(p for p in parts if has <= p.roles and not lacks & p.roles and (p.what == "bias" or not bias))


def invented(parts: Sequence[Part]) -> Iterator[Suspect]:
    """The biases that a count of `parts` may have where the model has none."""
    for name, has, lacks in GROUPS:
        chosen = tuple(part for part in _chosen(parts, has, lacks) if part.sides)
        for amount in sorted(_bias_totals(chosen)):
            yield Suspect("invented", -amount, name, chosen)


def _bias_totals(parts: Sequence[Part]) -> set[int]:
    """What biases of `parts` may add up to: a matrix has one along either side.

    Of siblings counted as one, as {wi,wo}, not all have it along the same side if nothing else leads back.
    """
    options = []
    for part in parts:
        siblings = part.count // gcd(part.count, blocks_of(part.path))
        first, last = part.sides[0], part.sides[-1]
        alone = sum(other.sides == part.sides for other in parts) == 1
        mixed = range(1, siblings) if alone and siblings > 1 else range(siblings + 1)
        options.append({part.count // siblings * (n * first + (siblings - n) * last) for n in mixed})
    return {sum(choice) for choice in islice(product(*options), MOST_CHOICES)} if parts else set()


def explain(written: Written, parts: Sequence[Part], sizes: Collection[int]) -> list[Suspect] | None:
    """The fewest mistakes that make `written` of what `parts` hold; [] if it is right, None if none are found.

    `sizes` are numbers that a wrong one may have been meant to be. Mistakes of the same number are preferred in the
    order in which people make them. Every set that is given back makes up for the difference exactly.
    """
    right = sum(part.total for part in parts)
    difference = int(right - written.value)
    if difference == 0:
        return []
    lacking = left_out(parts)
    named = [*(s for s in lacking if s.what), *invented(parts)]
    single = [*named, *_twice(lacking), *(s for s in lacking if not s.what)]
    constants = list(_constants(written, sizes))
    return (
        _first(named, 1, difference)
        or _first(constants, 1, difference)
        or _first(single, 1, difference)
        or _first(named, 2, difference)
        or _constant_and_another(constants, named, difference)
        or _first(_factors(written, right), 1, difference)
        or _first(single, 2, difference)
        or _first(named, 3, difference)
    )


def _first(suspects: Iterable[Suspect], together: int, difference: int) -> list[Suspect] | None:
    """The first set of so many that makes up for `difference`, each part blamed once."""
    for chosen in combinations(suspects, together):
        if sum(suspect.amount for suspect in chosen) == difference and _are_apart(chosen):
            return list(chosen)
    return None


def _are_apart(suspects: Sequence[Suspect]) -> bool:
    blamed = [part.key for suspect in suspects for part in suspect.parts]
    return len(blamed) == len(set(blamed))


def _twice(lacking: Iterable[Suspect]) -> Iterator[Suspect]:
    for suspect in lacking:
        yield Suspect("twice", -suspect.amount, suspect.what, suspect.parts)


def _constants(written: Written, sizes: Collection[int]) -> Iterator[Suspect]:
    """One number of the formula, or one symbol that the person defined, with another size of the model."""
    value = written.value
    for place, number in enumerate(written.expression.numbers):
        for size in sizes:
            other = written.with_number(place, size)
            if other is not None and other != value and other.denominator == 1:
                yield Suspect("constant", int(other - value), found=number, right=str(size))
    for name in sorted(written.own & written.expression.symbols):
        for size in sizes:
            other = written.expression.evaluate({**written.values, name: size}) * written.times
            if other != value and other.denominator == 1:
                yield Suspect("constant", int(other - value), found=f"{name} = {written.values[name]}", right=str(size))


def _constant_and_another(
    constants: Iterable[Suspect], named: Sequence[Suspect], difference: int
) -> list[Suspect] | None:
    for constant in constants:
        if rest := _first(named, 1, difference - constant.amount):
            return [constant, *rest]
    return None


def _factors(written: Written, right: int) -> Iterator[Suspect]:
    """A small number of the formula with the one that makes it `right`, where the value is linear in it."""
    for place, number in enumerate(written.expression.numbers):
        if not (number.isdigit() and int(number) <= LARGEST_FACTOR):
            continue
        zero, one, two = (written.with_number(place, n) for n in range(3))
        if zero is None or one is None or two is None:
            continue
        step = one - zero
        factor = (right - zero) / step if step and two - one == step else 0
        if 0 < factor <= LARGEST_FACTOR and factor == int(factor):
            yield Suspect("constant", int(right - written.value), found=number, right=str(int(factor)))
