"""The batch beyond which a bigger batch only takes longer.

Every operator's arithmetic and bytes are a constant (weights are read once, the optimizer's work is the same) and a
part that grows with the batch. Two recordings at different batches give both, a third shows that there is no more to
it. So the bound is known at every batch, and the time for one sample falls towards what the growing parts alone take.
From the batch at which it is within 1 % of that on, twice the batch takes twice the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from tonnage.analyses.compute import costs_of
from tonnage.analyses.passes import last_step
from tonnage.analyses.roofline.bounds import Load, Speeds, load_of
from tonnage.costs import Cost
from tonnage.gpus import Card
from tonnage.recording import Recording

WITHIN = 1.01


class UsefulBatch(Struct, frozen=True, kw_only=True):
    """The smallest `batch` at which a sample takes at most 1 % more than it does at any; None: `reason` says why.

    `seconds_per_sample` is the bound there, `seconds_per_sample_alone` at batch 1 and `least_seconds_per_sample` what
    no batch gets below.
    """

    batch: int | None
    seconds_per_sample: float = 0.0
    seconds_per_sample_alone: float = 0.0
    least_seconds_per_sample: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class _Line:
    """Seconds at a batch: `fixed` + `each` * batch."""

    fixed: float
    each: float


def find_useful_batch(recordings: Mapping[int, Recording], card: Card) -> UsefulBatch:
    """From recordings of the same run at two batches or more, three to be sure that no work grows in another way."""
    batches = sorted(recordings)
    assert len(batches) > 1, "one batch does not tell what grows"
    loads = [_loads(recordings[batch]) for batch in batches]
    if len({tuple((load.kind, load.dtype) for load in of_one) for of_one in loads}) > 1:
        return UsefulBatch(batch=None, reason="other operators run at another batch")
    if not all(_is_straight(batches, columns) for columns in zip(*loads, strict=True)):
        return UsefulBatch(batch=None, reason="some work grows otherwise than in proportion to the batch")
    speeds = Speeds(card)
    operators = [_lines(batches, (first, second), speeds) for first, second in zip(loads[0], loads[1], strict=True)]
    least = sum(max(line.each for line in lines) for lines in operators)
    if not least:
        return UsefulBatch(batch=None, reason="nothing grows with the batch")

    def per_sample(batch: int) -> float:
        return sum(max(line.fixed + line.each * batch for line in lines) for lines in operators) / batch

    batch = _first(lambda batch: per_sample(batch) <= WITHIN * least)
    return UsefulBatch(
        batch=batch,
        seconds_per_sample=per_sample(batch),
        seconds_per_sample_alone=per_sample(1),
        least_seconds_per_sample=least,
    )


def _loads(recording: Recording) -> list[Load]:
    step = last_step(recording.trace)
    ops = recording.trace.ops[step.begin : step.end]
    return [load_of(op, cost) for op, cost in zip(ops, costs_of(ops), strict=True) if isinstance(cost, Cost)]


def _amounts(load: Load) -> tuple[int, int, int]:
    return load.product_flops, load.other_flops, load.bytes_moved


def _is_straight(batches: Sequence[int], loads: Sequence[Load]) -> bool:
    """Whether each amount of one operator is a constant and a multiple of the batch, neither of them negative."""
    for values in zip(*map(_amounts, loads), strict=True):
        run, rise = batches[1] - batches[0], values[1] - values[0]
        if rise < 0 or values[0] * run < rise * batches[0]:
            return False
        if any(
            (value - values[0]) * run != rise * (batch - batches[0])
            for batch, value in zip(batches, values, strict=True)
        ):
            return False
    return True


def _lines(batches: Sequence[int], loads: tuple[Load, Load], speeds: Speeds) -> list[_Line]:
    """Seconds of products, other arithmetic and bytes, each a line through its values at the first two batches."""
    first, second = (speeds.seconds(load)[:3] for load in loads)
    lines = []
    for low, high in zip(first, second, strict=True):
        each = (high - low) / (batches[1] - batches[0])
        lines.append(_Line(fixed=max(0.0, low - each * batches[0]), each=each))
    return lines


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest batch for which `holds`, which then holds for every larger one."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
