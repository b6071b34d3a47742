"""Parts put together again by what has them: the weight and the bias of one Linear, and its repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import sympy

from tonnage.analyses.closed_form.derive import Part
from tonnage.analyses.closed_form.survey import indices_of, pattern_of


@dataclass(frozen=True)
class Own:
    """The parts of one kind of module: `owners` are the paths of its repeats, `times` their number."""

    times: sympy.Expr
    owners: tuple[str, ...]
    parts: list[Part]

    @property
    def likeness(self) -> tuple[object, ...]:
        """Equal for modules of one size beside each other, such as query, key and value."""
        parents = tuple(owner_of(owner) for owner in self.owners)
        return (parents, self.times, *((leaf_of(p.members[0]), p.numbers) for p in self.parts))


def owner_of(name: str) -> str:
    return name.rpartition(".")[0]


def leaf_of(name: str) -> str:
    return name.rpartition(".")[2]


def by_module(parts: Sequence[Part]) -> list[Own]:
    """One entry for each kind of module that has parameters of its own."""
    pieces = [piece for part in _cut_to_owners(parts) for piece in _cut_by_place(part)]
    together: dict[tuple[object, ...], list[Part]] = {}
    for piece in pieces:
        owners = tuple(map(owner_of, piece.members))
        together.setdefault((owners, piece.times), []).append(piece)
    return [Own(own[0].times, tuple(map(owner_of, own[0].members)), own) for own in together.values()]


def beside_each_other(owned: Sequence[Own]) -> Iterator[list[Own]]:
    """Those of one size under one parent together."""
    groups: dict[tuple[object, ...], list[Own]] = {}
    for own in owned:
        groups.setdefault(own.likeness, []).append(own)
    yield from groups.values()


def _cut_to_owners(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts whose members belong to modules that differ in something else, cut where they do.

    Only a part that occurs a fixed number of times can be cut: of another the pieces could not be counted.
    """
    kinds: dict[str, set[tuple[object, ...]]] = {}
    for part in parts:
        for name in part.members:
            kinds.setdefault(owner_of(name), set()).add((leaf_of(name), part.numbers))
    for part in parts:
        if not part.times.is_Integer:
            yield part
            continue
        alike: dict[frozenset[tuple[object, ...]], list[str]] = {}
        for name in part.members:
            alike.setdefault(frozenset(kinds[owner_of(name)]), []).append(name)
        for names in alike.values():
            yield replace(part, members=tuple(names), times=sympy.Integer(len(names)))


def _cut_by_place(part: Part) -> Iterator[Part]:
    """A part that occurs 2*L times, twice in each of L blocks, as one for each of the two places."""
    content, times = part.times.as_content_primitive()
    if content == 1 or not content.is_Integer or not times.free_symbols:
        yield part
        return
    for position in range(len(list(indices_of(part.members[0])))):
        places: dict[int, list[str]] = {}
        for name in part.members:
            places.setdefault(list(indices_of(name))[position], []).append(name)
        if len(places) == content and len({len(names) for names in places.values()}) == 1:
            for names in places.values():
                yield replace(part, pattern=pattern_of(names[0]), members=tuple(names), times=times)
            return
    yield part
