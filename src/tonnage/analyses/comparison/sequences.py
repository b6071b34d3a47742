"""Two sequences aligned: the longest common subsequence, or close to it, in time that grows with what differs.

Myers, "An O(ND) Difference Algorithm and Its Variations" (Algorithmica 1, 1986), the greedy forward search. Where it
has met MOST differences and is not through, the path that got furthest is kept and the search starts anew from there:
sequences that have nothing in common would take time and memory in the square of their length otherwise.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

Point = tuple[int, int]
"""A position in each sequence."""
Run = tuple[int, int, int]
"""Where equal elements begin in each, and how many follow each other."""

MOST = 200
"""Differences that one search may meet: the time of one search grows with the square of it."""

_NOWHERE = -(1 << 60)
"""The reach of a diagonal that lies outside of the sequences."""


def align(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The positions of equal elements in both, in order.

    >>> align([512, 1024, 2048, 512], [512, 2048, 4096, 512])
    [(0, 0), (2, 1), (3, 3)]

    Of several that would do, the first is taken where the rest does not speak against it.
    """
    shared = set(left) & set(right)
    ours = [index for index, element in enumerate(left) if element in shared]
    theirs = [index for index, element in enumerate(right) if element in shared]
    found = _align([left[index] for index in ours], [right[index] for index in theirs])
    return [(ours[i], theirs[j]) for i, j in found]


def _align(left: list[Hashable], right: list[Hashable]) -> list[tuple[int, int]]:
    ends = len(left), len(right)
    found: list[tuple[int, int]] = []
    at = 0, 0
    while at[0] < ends[0] and at[1] < ends[1]:
        at, runs = _search(left, right, at, ends)
        for i, j, length in runs:
            found += zip(range(i, i + length), range(j, j + length), strict=True)
    return found


def _search(left: list[Hashable], right: list[Hashable], begin: Point, ends: Point) -> tuple[Point, list[Run]]:
    """How far both get from `begin`, and the runs of equal elements on the way.

    Diagonal k holds the points x - y = k, counted from `begin`; `reach[k + MOST + 1]` is the furthest x on it.
    """
    i0, j0 = begin
    width, height = ends[0] - i0, ends[1] - j0
    middle = MOST + 1
    reach = [_NOWHERE] * (2 * MOST + 3)
    reach[middle + 1] = 0
    steps: list[list[int]] = []
    for differences in range(MOST + 1):
        steps.append(reach[middle - differences - 1 : middle + differences + 2])
        for k in range(-differences, differences + 1, 2):
            x = _entered(reach[middle + k - 1], reach[middle + k + 1], k, width, height)
            if x >= 0:
                y = x - k
                while x < width and y < height and left[i0 + x] == right[j0 + y]:
                    x += 1
                    y += 1
                if x == width and y == height:
                    return ends, _way_back(steps, begin, k, x, width, height)
            reach[middle + k] = x
    diagonals = range(-MOST, MOST + 1, 2)
    k = max(diagonals, key=lambda k: 2 * reach[middle + k] - k)
    x = reach[middle + k]
    return (i0 + x, j0 + x - k), _way_back(steps, begin, k, x, width, height)


def _entered(before: int, after: int, k: int, width: int, height: int) -> int:
    """The furthest x at which diagonal k is entered: from k - 1 by skipping one of left, from k + 1 one of right."""
    across = before + 1 if before + 1 <= width else _NOWHERE
    down = after if after - k <= height else _NOWHERE
    return max(across, down, _NOWHERE)


def _way_back(steps: list[list[int]], begin: Point, k: int, x: int, width: int, height: int) -> list[Run]:
    """The runs on the path that ends at x on diagonal k, first to last."""
    runs: list[Run] = []
    for differences in range(len(steps) - 1, -1, -1):
        reach, middle = steps[differences], differences + 1
        before, after = reach[middle + k - 1], reach[middle + k + 1]
        entered = _entered(before, after, k, width, height)
        if x > entered:
            runs.append((begin[0] + entered, begin[1] + entered - k, x - entered))
        if differences:
            across = before + 1 == entered and before >= 0
            k, x = (k - 1, before) if across else (k + 1, after)
    return runs[::-1]
