"""Every number of a table as a polynomial of the sizes behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import sympy

from tonnage.analyses.closed_form.fitting import NoFit, Value, fit
from tonnage.analyses.closed_form.groups import Group, assign, group
from tonnage.analyses.closed_form.survey import Ask, Changes, Direction, Survey, Table


@dataclass(frozen=True)
class Part:
    """One group: `times` it occurs, and the product of `numbers` is how much each time."""

    pattern: str
    members: tuple[str, ...]
    numbers: tuple[sympy.Expr, ...]
    times: sympy.Expr

    @property
    def each(self) -> sympy.Expr:
        return sympy.expand(sympy.Mul(*self.numbers))


_LEVELS_AGAIN = 4
"""Values of each size that are enough where it is known already how to look: three coefficients and a check."""


@dataclass
class Derived:
    """What was found: the parts, the directions whose fields are the symbols, and the sizes that are held fixed."""

    survey: Survey
    parts: list[Part]
    directions: list[Direction]
    held: dict[str, str]
    symbols: dict[str, sympy.Symbol] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """The sizes that nothing follows."""
        followed = {name for direction in self.directions for name in direction.moved}
        return [name for name in self.survey.sizes if name not in followed and name not in self.held]

    @property
    def unfollowed(self) -> list[str]:
        """The sizes that nothing follows."""
        followed = {name for direction in self.directions for name in direction.moved}
        return [name for name in self.survey.sizes if name not in followed]

    @property
    def total(self) -> sympy.Expr:
        return sympy.expand(sympy.Add(*(part.times * part.each for part in self.parts)))


def derive(ask: Ask, sizes: Mapping[str, int]) -> Derived:
    """The closed form of the table that `ask` makes, whose sizes are `sizes`.

    A size that no polynomial follows is held fixed, and the form holds for its value alone.
    """
    survey = Survey(ask, sizes)
    directions, held = survey.directions()
    while True:
        symbols = {d.field: sympy.Symbol(d.field, positive=True, integer=True) for d in directions}
        try:
            parts = list(_parts(survey, directions, symbols))
        except NoFit as error:
            at = next(i for i, d in enumerate(directions) if d.field == error.field)
            other = survey.downwards(directions[at])
            directions[at : at + 1] = [other] if other is not None else []
            if other is None:
                held[error.field] = "no polynomial of it counts what follows it"
                survey.settled.pop(error.field, None)
        else:
            return Derived(survey, parts, directions, held, symbols)


def derive_alike(ask: Ask, like: Derived) -> Derived | None:
    """The form of another table that follows the sizes that `like` follows, in no others; None where it does not.

    Nothing is looked for anew, so this asks much less than `derive`.
    """
    survey = Survey(ask, like.survey.sizes)
    survey.settled = dict(like.survey.settled)
    if survey.follows_any(like.unfollowed):
        return None
    directions = [replace(d, levels=d.levels[:_LEVELS_AGAIN]) for d in like.directions]
    try:
        return Derived(survey, list(_parts(survey, directions, like.symbols)), like.directions, {}, like.symbols)
    except (NoFit, AssertionError):
        return None


def total_of(table: Table) -> int:
    """What is counted in all."""
    return sum(map(prod, table.values()))


def _parts(survey: Survey, directions: Sequence[Direction], symbols: Mapping[str, sympy.Symbol]) -> Iterator[Part]:
    sizes = [d for d in directions if not d.repeats]
    repeats = [d for d in directions if d.repeats]
    probes = [table for d in sizes for level in d.levels[1:] if (table := survey.near(d.at(level))) is not None]
    full = survey.at({})
    assert full is not None, "the subject itself was built"
    groups = group(survey.base, probes, full)
    counts = _Counts(groups)
    for index, g in enumerate(groups):
        name = next(name for name in g.members if name in survey.base)
        numbers = (fit(_number(survey, sizes, name, place), sizes, symbols) for place in range(len(survey.base[name])))
        blocks = fit(counts.value(index, repeats, survey.at), repeats, symbols)
        within = fit(counts.value(index, sizes, survey.near), sizes, symbols)
        times = blocks * within / counts.of(survey.base)[index]
        yield Part(g.pattern, g.members, tuple(numbers), sympy.expand(times))


def _changes(directions: Sequence[Direction], point: Mapping[str, int]) -> dict[str, int]:
    changes: dict[str, int] = {}
    for direction in directions:
        if direction.field in point:
            changes |= direction.at(point[direction.field])
    return changes


def _number(survey: Survey, directions: Sequence[Direction], name: str, place: int) -> Value:
    def value(point: Mapping[str, int]) -> int | None:
        table = survey.near(_changes(directions, point))
        numbers = None if table is None else table.get(name)
        return None if numbers is None or place >= len(numbers) else numbers[place]

    return value


class _Counts:
    """How often each group occurs in a table."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._known: dict[int, list[int] | None] = {}

    def value(self, index: int, directions: Sequence[Direction], look: Callable[[Changes], Table | None]) -> Value:
        def value(point: Changes) -> int | None:
            table = look(_changes(directions, point))
            if table is None:
                return None
            found = self._of(table)
            if found is None:
                raise NoFit(next(iter(point)))
            return found[index]

        return value

    def of(self, table: Table) -> list[int]:
        found = self._of(table)
        assert found is not None, "the groups were made from it"
        return found

    def _of(self, table: Table) -> list[int] | None:
        if id(table) not in self._known:  # the survey keeps every table, so ids stay theirs
            assigned = assign(self._groups, table)
            self._known[id(table)] = None if assigned is None else [len(names) for names in assigned]
        return self._known[id(table)]
