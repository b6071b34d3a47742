"""A form against real counts at sizes that it was not derived from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from tonnage.analyses.closed_form.derive import Derived, total_of
from tonnage.analyses.closed_form.survey import Ask, Direction, Table, is_regular

PROOFS = 6
"""Configurations that a form is held against."""
_TRIES = 40
_FACTORS = tuple(map(Fraction, ("1/2", "1", "3/2", "2", "5/2", "3", "5", "7")))
"""Different ones for different sizes pull apart what is equal by chance, such as 512 = 8 * 64."""
_MOST_BLOCKS = 5
_DEEPER = (3, 8)
"""How many more blocks than the subject's own: the form was derived from up to two more of them."""
_LEFT_OUT = 0.2
"""How likely a size that the form leaves out is doubled."""
Predict = Callable[[Mapping[str, int]], int | None]
"""What a form says at other sizes; None outside of its domain."""


@dataclass(frozen=True)
class Trial:
    """One configuration: what the form says there, and what is there."""

    changes: dict[str, int]
    predicted: int
    counted: int


def prove(derived: Derived, ask: Ask, predict: Predict) -> list[Trial]:
    """Trials at PROOFS configurations with several sizes changed at once, drawn from a fixed seed.

    Where `predict` is None a draw proves nothing. Fewer trials come back only where the subject cannot be built with
    what is drawn.
    """
    random = Random(0)
    trials: list[Trial] = []
    seen: set[frozenset[tuple[str, int]]] = set()
    for attempt in range(_TRIES):
        changes = _draw(derived, random, boldness=1 - attempt / _TRIES)
        key = frozenset(changes.items())
        predicted = predict(changes)
        if not changes or key in seen or predicted is None:
            continue
        seen.add(key)
        table = ask(changes)
        if table is not None and same_kind(derived, table):
            trials.append(Trial(changes, predicted, total_of(table)))
        if len(trials) == PROOFS:
            break
    return trials


def prove_alone(derived: Derived, ask: Ask, predict: Predict) -> list[Trial]:
    """Trials of one size each: more blocks, odd numbers, and whatever the form was derived from and does not say."""
    return [*_alone(derived, ask, predict, Random(0)), *_contradictions(derived, predict)]


def _contradictions(derived: Derived, predict: Predict) -> Iterator[Trial]:
    """What the form was derived from and does not say: a value or two may have been left out as rounded."""
    survey = derived.survey
    for direction in derived.directions:
        odd = survey.others(direction.field) if len(direction.moved) == 1 and not direction.repeats else ()
        for level in (*direction.levels[1:], *odd):
            changes = {**survey.settled, **direction.at(level)}
            table, predicted = survey.at(changes), predict({**survey.sizes, **changes})
            if table is not None and predicted not in (None, total_of(table)) and same_kind(derived, table):
                yield Trial(changes, predicted, total_of(table))


def _alone(derived: Derived, ask: Ask, predict: Predict, random: Random) -> Iterator[Trial]:
    """Trials of one size each, whatever the table is like: of more blocks than any that were looked at, and of sizes
    that the form leaves out though something follows them where they are odd.
    """
    survey = derived.survey
    followed = set().union(*(e.free_symbols for part in derived.parts for e in (part.times, *part.numbers)))
    for direction in derived.directions:
        if direction.repeats:
            points = [direction.at(direction.levels[0] + random.randint(*_DEEPER))]
        elif derived.symbols[direction.field] not in followed and len(direction.moved) == 1:
            points = [{**survey.settled, direction.field: value} for value in survey.others(direction.field)]
        else:
            continue
        for changes in points:
            table, predicted = ask(changes), predict(changes)
            if table is not None and predicted is not None:
                yield Trial(changes, predicted, total_of(table))


def _draw(derived: Derived, random: Random, *, boldness: float) -> dict[str, int]:
    """Other values for most sizes, for fewer of them the longer nothing could be built, and for some that are left out:
    nothing follows them in the model as it is, and something may in another.
    """
    changes: dict[str, int] = {}
    for direction in derived.directions:
        if random.random() < max(boldness, 0.2):
            changes |= direction.at(_value(derived, direction, random))
    for name in derived.left_out:
        if name not in changes and random.random() < _LEFT_OUT:
            changes[name] = 2 * derived.survey.sizes[name]
    return {name: value for name, value in changes.items() if value != derived.survey.sizes[name]}


def _value(derived: Derived, direction: Direction, random: Random) -> int:
    own = direction.levels[0]
    if direction.repeats:
        least = derived.survey.settled.get(direction.field, own)
        return random.randint(least, least + _MOST_BLOCKS)
    factors = [f for f in _FACTORS if all(before * f % 1 == 0 for before in direction.moved.values())]
    return int(own * random.choice(factors))


def same_kind(derived: Derived, table: Table) -> bool:
    """Whether the table is of the architecture that the form is of, so that it has to hold there."""
    return is_regular(derived.survey.base, table)
