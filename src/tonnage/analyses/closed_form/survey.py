"""Which sizes matter, which have to move together, and what tables look like when they move."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tonnage.analyses.closed_form.symbols import is_width

Table = Mapping[str, tuple[int, ...]]
Changes = Mapping[str, int]
Ask = Callable[[Changes], Table | None]
"""The table of the subject with these sizes changed; None where there is no such subject."""

_FACTORS = tuple(map(Fraction, ("2", "1/2", "4", "3", "1/4", "5", "6", "1/3", "8")))
_DIVISORS = tuple(map(Fraction, ("1/2", "1/3", "1/4", "1/5", "1/7", "1/8", "1/14", "1/16")))
_HOPELESS = 3
"""The factor after which a size with which nothing was built is given up."""
_ODD = 8
"""A size is looked at once at so much of it and 3: 1 becomes 11, and 2 not 3 or 4."""
_LEVELS = 5
"""Values at which each size is looked at, its own included: three coefficients, a check, and one to spare."""
_BLOCKS = ("layer", "depth", "block", "num_experts")
"""Parts of the names that numbers of blocks have; they are tried first, since fewer blocks make all else quicker."""
_DIGITS = re.compile(r"(?:(?<![^._#])|(?<=_l))\d+(?![^._#])")
"""The numbers in "layer.3.weight", "encoder_layer_3.weight" and "weight_hh_l3_reverse", but not that of "conv3"."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A size that can be changed by itself, or with those that have to move with it in proportion.

    `levels` are the values that were looked at, its own first. `repeats` says that it counts blocks: names come and
    go with it and no shape changes.
    """

    field: str
    moved: Mapping[str, int]
    levels: tuple[int, ...]
    repeats: bool = False

    def at(self, value: int) -> dict[str, int]:
        """The changes that bring the size to `value`."""
        return {name: before * value // self.moved[self.field] for name, before in self.moved.items()}


def pattern_of(name: str) -> str:
    """`name` without the numbers of its repeats.

    >>> pattern_of("layer.3.mlp.experts.17.up.weight"), pattern_of("layer1.0.conv2.weight")
    ('layer.{}.mlp.experts.{}.up.weight', 'layer1.{}.conv2.weight')
    """
    return _DIGITS.sub("{}", name)


class Survey:
    """Asks, and remembers the answers."""

    def __init__(self, ask: Ask, sizes: Mapping[str, int]) -> None:
        self._ask = ask
        self._seen: dict[tuple[tuple[str, int], ...], Table | None] = {}
        self.sizes = dict(sizes)
        self.settled: dict[str, int] = {}
        """Sizes that the survey is made at instead of the subject's own, so that there is less to build."""

    def at(self, changes: Changes) -> Table | None:
        """The table at `changes` from the subject's own sizes."""
        changed = {
            name: changes[name] for name in self.sizes if changes.get(name, self.sizes[name]) != self.sizes[name]
        }
        key = tuple(changed.items())
        if key not in self._seen:
            self._seen[key] = self._ask(changed)
        return self._seen[key]

    def near(self, changes: Changes) -> Table | None:
        """The table at `changes` from the settled sizes."""
        return self.at({**self.settled, **changes})

    @property
    def base(self) -> Table:
        found = self.near({})
        assert found is not None, "the subject itself was built"
        return found

    def directions(self) -> tuple[list[Direction], dict[str, str]]:
        """The sizes that matter, and those that cannot be varied with the reason."""
        found = list(self._repeats())
        counted = {direction.field for direction in found}
        held: dict[str, str] = {}
        stuck = []
        for name in self.sizes:
            if name in counted:
                continue
            direction = self._alone(name)
            if direction is None:
                stuck.append(name)
            elif direction.levels:
                found.append(direction)
        for name in stuck:
            partner = self._together(name, stuck, found)
            if partner is None:
                held[name] = "no other value of it builds the same architecture"
            else:
                found = [d for d in found if d.field not in partner.moved]
                found.append(partner)
        return found, held

    def downwards(self, direction: Direction) -> Direction | None:
        """The same direction looked at where its size divides itself, as a patch size has to divide an image."""
        levels = self._levels(direction.moved, direction.field, _DIVISORS)
        same = direction.repeats or len(levels) < 3 or levels == direction.levels
        return None if same else Direction(direction.field, direction.moved, levels)

    def _repeats(self) -> Iterator[Direction]:
        """The sizes that are numbers of blocks. Each is settled at once at the fewest that show every kind of block."""
        full = _kinds(self.base)
        for name in sorted(self.sizes, key=lambda name: not any(part in name for part in _BLOCKS)):
            value = self.sizes[name]
            more = self.near({name: value + 1})
            if more is None or not _more_of_the_same(self.base, more):
                continue
            yield Direction(name, {name: value}, (value, value + 1, value + 2), repeats=True)
            for fewer in range(1, value):
                table = self.near({name: fewer})
                if table is not None and _kinds(table) == full:
                    self.settled[name] = fewer
                    break

    def follows_any(self, names: Iterable[str]) -> bool:
        """Whether anything follows one of `names`: asked of all at once, and one by one where that cannot be built."""
        names = list(names)
        together = self.near({name: 2 * self.sizes[name] for name in names})
        return together != self.base if together is not None else any(map(self.follows, names))

    def follows(self, name: str) -> bool:
        """Whether anything is other with another value of `name`, as far as that can be built."""
        return any(self.near({name: other}) not in (None, self.base) for other in self.others(name))

    def others(self, name: str) -> tuple[int, ...]:
        """More of `name`, and odd numbers: a size may be rounded, or have to divide another."""
        value = self.sizes[name]
        return (2 * value, value + 1, _ODD * value + 3)

    def _alone(self, name: str) -> Direction | None:
        """`name` as a size of its own; without levels where nothing follows it, None where it cannot be varied."""
        value = self.sizes[name]
        *near, odd = self.others(name)
        if all(self.near({name: other}) == self.base for other in near) and self.near({name: odd}) in (None, self.base):
            return Direction(name, {name: value}, ())
        levels = self._levels({name: value}, name)
        if len(levels) < 3:
            return None
        moved = any(self.near({name: level}) != self.base for level in levels) or self.follows(name)
        return Direction(name, {name: value}, levels if moved else ())

    def _together(self, name: str, stuck: list[str], found: list[Direction]) -> Direction | None:
        """`name` with whichever other size has to move with it."""
        others = sorted((o for o in self.sizes if o != name), key=lambda o: self._likeness(name, o, stuck))
        known = {d.field: d for d in found if not d.repeats}
        already = next((d for d in found if name in d.moved), None)
        if already is not None:
            return already
        equal = tuple(o for o in stuck if o != name and self.sizes[o] == self.sizes[name])
        for group in (*((equal,) if len(equal) > 1 else ()), *((other,) for other in others)):
            moved = {o: self.sizes[o] for o in (name, *group)}
            leading = [o for o in group if o in known]
            moved |= known[leading[0]].moved if leading else {}
            field = leading[0] if leading else next((o for o in moved if is_width(o)), name)
            levels = self._levels(moved, field)
            if len(levels) >= 3 and any(self._with(moved, field, level) != self.base for level in levels):
                return Direction(field, moved, levels)
        return None

    def _likeness(self, name: str, other: str, stuck: list[str]) -> tuple[bool, bool, bool]:
        """Sizes of one value are the likeliest to be one size, then those that are stuck as well."""
        same_part = name.rpartition(".")[0] == other.rpartition(".")[0]
        return (self.sizes[name] != self.sizes[other], other not in stuck, not same_part)

    def _levels(
        self, moved: Mapping[str, int], field: str, factors: tuple[Fraction, ...] = _FACTORS
    ) -> tuple[int, ...]:
        value = self.sizes[field]
        levels = [value]
        for factor in factors:
            if any(before * factor % 1 for before in moved.values()):
                continue
            level = int(value * factor)
            table = self._with(moved, field, level)
            if table is not None and is_regular(self.base, table):
                levels.append(level)
            if len(levels) == _LEVELS or (len(levels) == 1 and factor == _HOPELESS):
                break
        return tuple(levels)

    def _with(self, moved: Mapping[str, int], field: str, level: int) -> Table | None:
        return self.near(Direction(field, moved, ()).at(level))


def _kinds(table: Table) -> dict[str, set[tuple[int, ...]]]:
    """The shapes under each pattern."""
    kinds: dict[str, set[tuple[int, ...]]] = {}
    for name, numbers in table.items():
        kinds.setdefault(pattern_of(name), set()).add(numbers)
    return kinds


def is_regular(base: Table, table: Table) -> bool:
    """Whether `table` has the kinds of entries that `base` has, and what is new in it is like what was there."""
    known: dict[str, set[tuple[int, ...]]] = {}
    for name in base:
        if name in table:
            known.setdefault(pattern_of(name), set()).add(table[name])
    if known.keys() != {pattern_of(name) for name in base}:
        return False
    return all(name in base or numbers in known.get(pattern_of(name), ()) for name, numbers in table.items())


def _more_of_the_same(base: Table, more: Table) -> bool:
    return (
        more.keys() > base.keys()
        and all(more[name] == numbers for name, numbers in base.items())
        and is_regular(base, more)
    )


def indices_of(name: str) -> Iterator[int]:
    """The numbers of the repeats that `name` belongs to."""
    return (int(found) for found in _DIGITS.findall(name))
