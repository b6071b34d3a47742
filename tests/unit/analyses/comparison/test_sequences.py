"""Alignments against the longest common subsequence as dynamic programming finds it."""

from __future__ import annotations

import random
import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.comparison.sequences import MOST, align

short = st.lists(st.integers(0, 3), max_size=14)


def longest(left, right) -> int:
    """The length of the longest common subsequence, by the textbook's table."""
    row = [0] * (len(right) + 1)
    for a in left:
        above = row[:]
        for j, b in enumerate(right, start=1):
            row[j] = above[j - 1] + 1 if a == b else max(above[j], row[j - 1])
    return row[-1]


def check(left, right, found):
    assert all(left[i] == right[j] for i, j in found)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(found))


@given(short, short)
def test_it_is_a_longest_common_subsequence(left, right):
    found = align(left, right)
    check(left, right, found)
    assert len(found) == longest(left, right)


@given(st.lists(st.integers()))
def test_equal_sequences_are_aligned_whole(sequence):
    assert align(sequence, sequence) == [(i, i) for i in range(len(sequence))]


def test_one_that_is_missing_in_each_of_many_layers():
    layer = [512, 1024, 2048, 512, 4096]
    assert len(align(layer * 50, [size for size in layer * 50 if size != 2048])) == 200


def test_the_first_of_several_that_would_do():
    assert align([7], [7, 7]) == align([7, 7], [7]) == [(0, 0)]


def test_more_differences_than_one_search_may_meet():
    # GIVEN twice as many insertions as a search may meet, of sizes that are on the other side too
    left = list(range(5 * MOST))
    right = [n for i in left for n in ((i, 0) if i % 2 else (i,))]
    found = align(left, right)
    check(left, right, found)
    assert len(found) == longest(left, right) == len(left)


def test_a_hundred_thousand_in_seconds():
    # GIVEN what takes longest: nothing in the same order
    dice = random.Random(0)
    sizes = [512 * dice.randrange(1, 500) for _ in range(100_000)]
    other = sizes[:]
    dice.shuffle(other)
    begun = time.perf_counter()
    check(sizes, other, align(sizes, other))
    assert time.perf_counter() - begun < 60
