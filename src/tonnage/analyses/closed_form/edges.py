"""The smallest sizes for which a form holds: at one expert or a stride of one there may be other parts."""

from __future__ import annotations

from collections.abc import Mapping

from tonnage.analyses.closed_form.derive import Derived, total_of
from tonnage.analyses.closed_form.proving import Predict
from tonnage.analyses.closed_form.survey import Direction


def least_sizes(derived: Derived, predict: Predict) -> Mapping[str, int]:
    """The sizes that have to be at least so large. Numbers of blocks are tried below the fewest that show every kind,
    other sizes at 1, each by itself.
    """
    found = {direction.field: _least(derived, direction, predict) for direction in derived.directions}
    return {field: size for field, size in found.items() if size > 1}


def _least(derived: Derived, direction: Direction, predict: Predict) -> int:
    survey = derived.survey
    from_here = survey.settled.get(direction.field, direction.levels[0]) if direction.repeats else 2
    for value in range(min(from_here, direction.levels[0]) - 1, 0, -1):
        changes = direction.at(value)
        table = survey.near(changes) if all(changes.values()) else None
        if table is not None and predict({**survey.sizes, **survey.settled, **changes}) not in (None, total_of(table)):
            return value + 1
    return 1
