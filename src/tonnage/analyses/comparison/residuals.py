"""What differs between the allocations of both sides, named and grouped, so that the groups sum to the difference."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from tonnage.analyses.comparison.figures import Residual, ResidualKind
from tonnage.analyses.comparison.matching import Matching, Stretches
from tonnage.analyses.comparison.sides import Side
from tonnage.ledger import Kind

Alive = tuple[set[int], set[int]]
"""What each side holds at the instant that is looked at."""
NEVER = -1
"""The stretch in which an allocation is freed that is alive at the last mark."""


class _Name(NamedTuple):
    """What residuals have in common that are told as one."""

    kind: ResidualKind
    predicted_size: int | None
    measured_size: int | None
    operator: str
    module: str
    phase: str
    category: str
    after: bool
    line: str


class _Found(NamedTuple):
    name: _Name
    since: str
    at_peak: int
    over_run: int


def find_residuals(
    predicted: Side, measured: Side, matching: Matching, stretches: Stretches, alive: Alive
) -> list[Residual]:
    """Every difference, largest in what is `alive` first, then largest over the run."""
    groups: dict[_Name, list[_Found]] = {}
    for found in _Finder(predicted, measured, matching, stretches, alive).all():
        groups.setdefault(found.name, []).append(found)
    together: dict[_Name, list[_Name]] = {}
    for name in groups:
        together.setdefault(name._replace(module=_parent(name.module)), []).append(name)
    residuals = [
        _residual(
            names[0]._replace(module=_siblings([name.module for name in names])),
            [found for name in names for found in groups[name]],
        )
        for names in together.values()
    ]
    return sorted(residuals, key=_weight, reverse=True)


def _siblings(modules: list[str]) -> str:
    """Modules of one parent as one: "attention.self.{query,key,value}"."""
    if len(modules) == 1:
        return modules[0]
    parent, dot, _ = modules[0].rpartition(".")
    return f"{parent}{dot}{{{','.join(module.rpartition('.')[2] for module in modules)}}}"


def _parent(module: str) -> str:
    """What siblings share; what runs outside of modules is nobody's sibling."""
    return f"{module.rpartition('.')[0]}." if module else ""


def _residual(name: _Name, members: list[_Found]) -> Residual:
    return Residual(
        **name._asdict(),
        times=len(members),
        since=members[0].since,
        at_peak=sum(found.at_peak for found in members),
        over_run=sum(found.over_run for found in members),
    )


def _weight(residual: Residual) -> tuple[int, int, int]:
    size = max(residual.predicted_size or 0, residual.measured_size or 0)
    return abs(residual.at_peak), abs(residual.over_run), residual.times * size


class _Finder:
    """Makes residuals of what was matched; sizes and what is alive are looked up for each side."""

    def __init__(self, predicted: Side, measured: Side, matching: Matching, stretches: Stretches, alive: Alive) -> None:
        self.predicted, self.measured, self.matching = predicted, measured, matching
        self.sizes = predicted.recording.ledger.sizes, measured.recording.ledger.sizes
        self.alive = alive
        self.deaths = stretches.deaths(predicted, 0), stretches.deaths(measured, 1)
        self.marks = _Marks(predicted), _Marks(measured)

    def all(self) -> Iterator[_Found]:
        for number in self.matching.only_predicted:
            yield self._found("only predicted", number, None)
        for number in self.matching.only_measured:
            yield self._found("only measured", None, number)
        for ours, theirs in self.matching.resized:
            yield self._found("another size", ours, theirs)
        for ours, theirs in (*self.matching.equal, *self.matching.reordered):
            kind = self._of_equal(ours, theirs)
            if kind is not None:
                yield self._found(kind, ours, theirs)

    def _of_equal(self, ours: int, theirs: int) -> ResidualKind | None:
        alive = ours in self.alive[0], theirs in self.alive[1]
        if alive == (True, False):
            return "alive longer in the prediction"
        if alive == (False, True):
            return "alive longer when measured"
        elsewhere = self.deaths[0].get(ours, NEVER) != self.deaths[1].get(theirs, NEVER)
        return "freed elsewhere" if elsewhere else None

    def _found(self, kind: ResidualKind, ours: int | None, theirs: int | None) -> _Found:
        predicted_size = None if ours is None else self.sizes[0][ours]
        measured_size = None if theirs is None else self.sizes[1][theirs]
        at_peak = (predicted_size or 0 if ours in self.alive[0] else 0) - (
            measured_size or 0 if theirs in self.alive[1] else 0
        )
        name = _Name(kind, predicted_size, measured_size, *self._place(ours, theirs))
        since = self.marks[0].before(ours) if ours is not None else self.marks[1].before(theirs)
        return _Found(name, since, at_peak, (predicted_size or 0) - (measured_size or 0))

    def _place(self, ours: int | None, theirs: int | None) -> tuple[str, str, str, str, bool, str]:
        """Operator, module, phase and category, whether they are of the allocation before, and the line of Python."""
        line = ""
        if theirs is not None and self.measured.knows_operators:
            if not self.predicted.knows_operators or (ours is None and self.matching.alike):
                return (*_place_of(self.measured, theirs), False, "")
            line = "" if self.matching.alike else self.measured.operator(theirs)
        if ours is not None:
            return (*_place_of(self.predicted, ours), False, line)
        before = self.matching.before.get(theirs) if theirs is not None else None
        operator, module, phase, _ = ("", "", "", "") if before is None else _place_of(self.predicted, before)
        return operator, module, self._measured_phase(theirs) or phase, "", before is not None, line

    def _measured_phase(self, theirs: int | None) -> str:
        phases = self.measured.phases
        return phases[theirs] if phases is not None and theirs is not None else ""


def _place_of(side: Side, number: int) -> tuple[str, str, str, str]:
    phase = side.phases[number] if side.phases is not None else ""
    return side.operator(number), side.module(number), phase, side.category(number)


class _Marks:
    """The mark before each allocation of a side."""

    def __init__(self, side: Side) -> None:
        ledger = side.recording.ledger
        self.names = ["", *(name for name, _ in side.positions)]
        self.born: list[int] = []
        count = begin = 0
        for _, end in side.positions:
            count += ledger.kinds[begin:end].count(Kind.ALLOC)
            self.born.append(count)
            begin = end

    def before(self, number: int | None) -> str:
        """Of allocation `number`: as many marks came before as have at most that many allocations before them."""
        assert number is not None, "asked of an allocation of this side"
        return self.names[bisect_right(self.born, number)]
