"""Names that behave alike: one pattern, and the same numbers whatever is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tonnage.analyses.closed_form.survey import Table, indices_of, pattern_of


@dataclass(frozen=True)
class Group:
    """Entries of a table that are one thing many times over: `members` are their names in the table of the subject."""

    pattern: str
    members: tuple[str, ...]


def group(base: Table, probes: Sequence[Table], full: Table) -> list[Group]:
    """The groups of `full`, told apart by what `base` and each of `probes` say of their members there."""
    behaviours: dict[tuple[object, ...], list[str]] = {}
    for name, numbers in base.items():
        behaviour = (pattern_of(name), numbers, *(probe.get(name) for probe in probes))
        behaviours.setdefault(behaviour, []).append(name)
    groups = [Group(str(key[0]), tuple(names)) for key, names in behaviours.items()]
    assigned = assign(groups, full)
    assert assigned is not None, "the settled table has every kind of entry"
    return [Group(g.pattern, tuple(names)) for g, names in zip(groups, assigned, strict=True)]


def assign(groups: Sequence[Group], table: Table) -> list[list[str]] | None:
    """The names in `table` that belong to each group: its members, and what is new and like them.

    A new name belongs to the group of the known name next to it that has its pattern and its numbers; None where there
    is none, or where members of one group differ.
    """
    known = {name: index for index, g in enumerate(groups) for name in g.members if name in table}
    alike: dict[tuple[str, tuple[int, ...]], list[tuple[tuple[int, ...], int]]] = {}
    for name, index in known.items():
        alike.setdefault((groups[index].pattern, table[name]), []).append((tuple(indices_of(name)), index))
    found: list[list[str]] = [[] for _ in groups]
    for name, numbers in table.items():
        place = known.get(name)
        if place is None:
            place = _nearest(tuple(indices_of(name)), alike.get((pattern_of(name), numbers), []))
        if place is None:
            return None
        found[place].append(name)
    return found if all(len({table[name] for name in names}) <= 1 for names in found) else None


def _nearest(place: tuple[int, ...], known: Sequence[tuple[tuple[int, ...], int]]) -> int | None:
    before = [(other, index) for other, index in known if _comes_before(other, place)]
    candidates = before or list(known)
    return min(candidates, key=lambda c: _distance(c[0], place))[1] if candidates else None


def _comes_before(other: tuple[int, ...], place: tuple[int, ...]) -> bool:
    return all(o <= p for o, p in zip(other, place, strict=True))


def _distance(other: tuple[int, ...], place: tuple[int, ...]) -> tuple[int, ...]:
    """How far apart two places are: the stage counts before the layer in it."""
    return tuple(abs(o - p) for o, p in zip(other, place, strict=True))
