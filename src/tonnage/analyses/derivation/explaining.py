"""Why a term has another value than what it counts: causes that make up for the difference exactly, or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from tonnage.analyses.derivation.parts import Part
from tonnage.analyses.derivation.results import CauseKind
from tonnage.analyses.expressions import Expression
from tonnage.errors import BadOption

MOST_NUMBERS = 40
"""Of a formula: in a longer one no number is tried to be another."""
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
        return self._evaluated(self.expression.with_number(place, number), self.values)

    def with_symbol(self, name: str, number: int) -> Fraction | None:
        """The value with another number for this symbol; None if that makes none."""
        return self._evaluated(self.expression, {**self.values, name: number})

    def _evaluated(self, expression: Expression, values: Mapping[str, int]) -> Fraction | None:
        try:
            return expression.evaluate(values) * self.times
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


def omitted(parts: Sequence[Part], target: int, written: Written) -> list[Part] | None:
    """What to leave out of `parts` for `target` elements to be left: nothing, or one or two groups; None for none.

    Of groups of one size, those without which the addends of the formula are found among the rest.
    """
    surplus = sum(part.total for part in parts) - target
    if surplus == 0:
        return []
    named = [suspect for suspect in left_out(parts) if suspect.what]
    for together in (1, 2):
        found = [[part for s in suspects for part in s.parts] for suspects in _sets(named, together, surplus)]
        if found:
            return max(found, key=lambda lacking: _fit(written, [part for part in parts if part not in lacking]))
    return None


def _fit(written: Written, parts: Sequence[Part]) -> int:
    """How many addends of a formula are the size of some of `parts` that belong together, each part used once."""
    left, found = list(parts), 0
    for value in sorted((a.evaluate(written.values) * written.times for a in written.expression.addends), reverse=True):
        used = next((group for group in _belonging_together(left) if sum(part.total for part in group) == value), ())
        found += bool(used)
        left = [part for part in left if part not in used]
    return found


def _belonging_together(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    by_role = [_chosen(parts, frozenset({role}), frozenset({"norm"} - {role})) for role in WHOLE]
    by_path = [tuple(part for part in parts if part.path == path) for path in dict.fromkeys(p.path for p in parts)]
    for group in (*by_role, *by_path):
        yield group
        yield tuple(part for part in group if part.what == "weight")
        yield tuple(part for part in group if part.what == "bias")


def _chosen(
    parts: Sequence[Part], has: frozenset[str], lacks: frozenset[str], *, bias: bool = False
) -> tuple[Part, ...]:
    return tuple(p for p in parts if has <= p.roles and not lacks & p.roles and (p.what == "bias" or not bias))


def invented(parts: Sequence[Part]) -> Iterator[Suspect]:
    """The biases that a count of `parts` may have where the model has none."""
    for name, has, lacks in GROUPS:
        chosen = tuple(part for part in _chosen(parts, has, lacks) if part.out)
        if chosen:
            yield Suspect("invented", -sum(part.count * part.out for part in chosen), name, chosen)


def ungrouped(parts: Sequence[Part]) -> list[Suspect]:
    """Keys and values counted with as many heads as the queries, where they have fewer."""
    attention = [p for p in parts if "attention" in p.roles and "linear" in p.roles and p.what == "weight"]
    largest = max((part.each for part in attention), default=0)
    smaller = tuple(part for part in attention if part.each < largest and largest % part.each == 0)
    return [Suspect("heads", -sum((largest - p.each) * p.count for p in smaller), parts=smaller)] if smaller else []


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
    named = [*(s for s in lacking if s.what), *invented(parts), *ungrouped(parts)]
    single = [*named, *_twice(lacking), *(s for s in lacking if not s.what)]
    constants = list(_constants(written, sizes))
    return (
        _first(named, 1, difference)
        or _first(constants, 1, difference)
        or _first(single, 1, difference)
        or _first(named, 2, difference)
        or _constant_and_another(constants, named, difference)
        or _first(_other_numbers(written, right), 1, difference)
        or _first(single, 2, difference)
        or _first(named, 3, difference)
    )


def _first(suspects: Iterable[Suspect], together: int, difference: int) -> list[Suspect] | None:
    return next(_sets(suspects, together, difference), None)


def _sets(suspects: Iterable[Suspect], together: int, difference: int) -> Iterator[list[Suspect]]:
    """The sets of so many that make up for `difference`, each part blamed once."""
    for chosen in combinations(suspects, together):
        if sum(suspect.amount for suspect in chosen) == difference and _are_apart(chosen):
            yield list(chosen)


def _are_apart(suspects: Sequence[Suspect]) -> bool:
    blamed = [part.key for suspect in suspects for part in suspect.parts]
    return len(blamed) == len(set(blamed))


def _twice(lacking: Iterable[Suspect]) -> Iterator[Suspect]:
    for suspect in lacking:
        yield Suspect("twice", -suspect.amount, suspect.what, suspect.parts)


def _numbers(written: Written) -> list[tuple[int, str]]:
    numbers = written.expression.numbers
    return list(enumerate(numbers)) if len(numbers) <= MOST_NUMBERS else []


def _constants(written: Written, sizes: Collection[int]) -> Iterator[Suspect]:
    """One number of the formula, or one symbol that the person defined, with another size of the model."""
    value = written.value
    tries = [(number, size, written.with_number(n, size)) for n, number in _numbers(written) for size in sizes]
    for name in sorted(written.own & written.expression.symbols):
        tries += [(f"{name} = {written.values[name]}", size, written.with_symbol(name, size)) for size in sizes]
    for found, size, other in tries:
        if other is not None and other != value and other.denominator == 1:
            yield Suspect("constant", int(other - value), found=found, right=str(size))


def _constant_and_another(
    constants: Iterable[Suspect], named: Sequence[Suspect], difference: int
) -> list[Suspect] | None:
    for constant in constants:
        if rest := _first(named, 1, difference - constant.amount):
            return [constant, *rest]
    return None


def _other_numbers(written: Written, right: int) -> Iterator[Suspect]:
    """A number of the formula with the one that makes it `right`, where the value is linear in it.

    A factor may be any other factor. A size is taken for a near miss, as of 1024 positions that are 1026, and only if
    it is multiplied with something: one that is added could be changed to make up for anything.
    """
    for place, number in _numbers(written):
        zero, one, two = (written.with_number(place, n) for n in range(3))
        if zero is None or one is None or two is None or two - one != one - zero or one == zero:
            continue
        found, meant = Fraction(number), (right - zero) / (one - zero)
        both_factors = max(found, meant) <= LARGEST_FACTOR
        near = min(found, meant) > LARGEST_FACTOR and abs(found - meant) <= found / 8 and one - zero > LARGEST_FACTOR
        if meant.denominator == 1 and meant > 0 and (both_factors or near):
            yield Suspect("constant", int(right - written.value), found=number, right=str(meant))
