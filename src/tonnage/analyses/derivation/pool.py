"""The parts that no term has counted yet, and the search for some that add up to a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tonnage.analyses.derivation.parts import Part, blocks_of

MOST_STEPS = 20_000
"""Of one search; what is not found by then is left to the search for causes."""
MOST_FOUND = 30


class Pool:
    """How many repeats of each part are left."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.left = {part.key: part.count for part in parts}

    def of(self, parts: Sequence[Part]) -> list[Part]:
        """What is left of `parts`."""
        return [part.times(self.left[part.key]) for part in parts if self.left[part.key]]

    @property
    def all(self) -> list[Part]:
        return self.of(self.parts)

    def take(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self.left[part.key] -= part.count


def subsets(parts: Sequence[Part], target: int, *, whole_lists: bool = True) -> list[list[Part]]:
    """Sets of `parts` with `target` elements, the likeliest to be counted together first.

    Where `whole_lists`, blocks are taken all or none, and whole components are likelier; else few components are.
    """
    found: list[list[Part]] = []
    for alike in dict.fromkeys(tuple(filter(kind, parts)) for kind in COUNTED_ALIKE):
        options = [_options(group, whole_lists) for group in _by_path(alike)]
        found += _search([option for option in options if option], target)
    return sorted(found, key=lambda chosen: _oddity(chosen, whole_lists))


COUNTED_ALIKE: tuple[Callable[[Part], bool], ...] = (
    lambda part: True,
    lambda part: part.what == "weight" or "norm" in part.roles,
    lambda part: part.what == "weight",
    lambda part: part.what == "bias",
)
"""Who leaves out one bias leaves out all, at most not those of norms; and biases are counted among themselves."""


def _by_path(parts: Sequence[Part]) -> list[list[Part]]:
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.path, []).append(part)
    return list(groups.values())


_Option = tuple[int, list[Part]]


def _options(parts: Sequence[Part], whole_lists: bool) -> list[_Option]:
    """The ways to take repeats of one component, the most first: all numbers of few, of many the even shares."""
    most = min(part.count for part in parts)
    step = blocks_of(parts[0].path) if whole_lists else 1
    counts = [n for n in range(most, 0, -1) if n % step == 0 and (most // step <= 24 or most % n == 0)]
    taken = [[part.times(count) for part in parts] for count in counts]
    return [(sum(part.total for part in chosen), chosen) for chosen in taken]


def _search(options: list[list[_Option]], target: int) -> list[list[Part]]:
    """Sets with one option of some components, the largest tried first; all there are, or those found in time."""
    options = sorted(options, key=lambda option: -option[0][0])
    reach = [sum(option[0][0] for option in options[n:]) for n in range(len(options) + 1)]
    found: list[list[Part]] = []
    steps = 0

    def search(n: int, left: int, taken: list[Part]) -> None:
        nonlocal steps
        steps += 1
        if left == 0 and taken:
            found.append(taken)
        if left <= 0 or reach[n] < left or steps > MOST_STEPS or len(found) >= MOST_FOUND:
            return
        for size, chosen in options[n]:
            if size <= left:
                search(n + 1, left - size, [*taken, *chosen])
        search(n + 1, left, taken)

    search(0, target, [])
    return found


def _oddity(parts: Sequence[Part], whole_lists: bool) -> tuple[int, int, int]:
    """How far a set is from what a person would count together: torn components, many of them, far apart."""
    paths = {part.path for part in parts}
    apart = len({path.rpartition(".")[0] for path in paths})
    return (torn(parts), len(paths), apart) if whole_lists else (len(paths), torn(parts), apart)


def torn(parts: Sequence[Part]) -> int:
    """The components of which only some repeats are among `parts`."""
    return len({part.path for part in parts if part.count != part.all})
