"""docs/accuracy.md: the whole table, the worst first, from the outcomes of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.truth.groups import GROUPS, Group
from benchmarks.truth.rows import TIERS
from benchmarks.truth.run import Outcome
from tonnage.gpus import parse_version
from tonnage.units import MiB

HEAD = """# Accuracy

What real cards were seen to do, as their owners published it, and what the virtual GPU says of the same script. It is
asked before: no figure of a row, nor of its card, goes into its prediction. Every row is here, the worst group and the
worst row first; so are the rows that cannot be asked, with the reason.

    make truth

runs all of it and writes this page. CI runs a part at every change, and a row that gets worse fails. The rows with
their scripts, as published, are in `tests/truth/published`; the same scripts for the virtual GPU are in
`benchmarks/truth/scripts`.

"Allocated" is what PyTorch's allocator hands out, "reserved" what it takes from the driver, "process" what nvidia-smi
shows. An error of -1 % means that a hundredth more was measured than predicted. "Under" is the side that hurts: where
a row is under by more than 2 %, the report should have said beforehand what is not counted; where it had not, that is
said below the table.
"""
UNDER = -0.02


@dataclass(frozen=True)
class Error:
    """One figure of one row: predicted over measured, less one."""

    outcome: Outcome
    tier: str
    value: float


def errors_of(outcomes: Iterable[Outcome]) -> list[Error]:
    """Every figure that was both measured and predicted, the largest error first."""
    found = [
        Error(outcome, tier, outcome.ratios[tier] - 1)
        for outcome in outcomes
        for tier in TIERS
        if tier in outcome.ratios
    ]
    return sorted(found, key=lambda error: (-abs(error.value), error.outcome.row.id, error.tier))


def page(outcomes: list[Outcome]) -> str:
    """The page as Markdown."""
    by_group = {name: [o for o in outcomes if o.row.group == name] for name in GROUPS}
    ranked = sorted(by_group, key=lambda name: -_worst(by_group[name]))
    parts = [HEAD, *_summary(ranked, by_group), *_coverage(outcomes)]
    for name in ranked:
        parts += _group(GROUPS[name], by_group[name])
    return "\n".join([*parts, *_not_run(outcomes)]) + "\n"


def _worst(outcomes: list[Outcome]) -> float:
    return max((abs(error.value) for error in errors_of(outcomes)), default=-1.0)


def _summary(ranked: list[str], by_group: dict[str, list[Outcome]]) -> Iterator[str]:
    yield "## By group\n"
    yield "| group | tier | rows | not run | median error | p95 | worst over | worst under | asked for |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|---|"
    for name in ranked:
        errors = errors_of(by_group[name])
        absent = sum(outcome.predicted is None for outcome in by_group[name])
        for tier in TIERS:
            values = [error.value for error in errors if error.tier == tier]
            if values:
                asked = _asked(name, by_group[name])
                yield f"| {name} | {tier} | {len(values)} | {absent} | {_statistics(values)} | {asked} |"
        answers = [outcome.predicted.right for outcome in by_group[name] if outcome.predicted is not None]
        if answers and not errors:
            right = f"{sum(map(bool, answers))} of {len(answers)} answers are as published"
            yield f"| {name} | | {len(answers)} | {absent} | {right} | | | | |"
        elif not errors:
            yield f"| {name} | | 0 | {absent} | | | | | |"
    yield ""
    silent = unexplained(outcome for name in ranked for outcome in by_group[name])
    if silent:
        yield "Under by more than 2 %, and the report had named nothing:\n"
        yield from (f"- {error.outcome.row.id}, {_percent(error.value)}" for error in silent)
        yield ""


def _statistics(values: list[float]) -> str:
    sizes = [abs(value) for value in values]
    over, under = max(values), min(values)
    shown = (f"{100 * median(sizes):.2f} %", f"{100 * _percentile(sizes, 95):.2f} %")
    return " | ".join((*shown, _percent(over) if over > 0 else "none", _percent(under) if under < 0 else "none"))


def _percentile(sizes: list[float], percent: int) -> float:
    """Between the two sizes next to it, as numpy's default."""
    return quantiles(sizes, n=100, method="inclusive")[percent - 1] if len(sizes) > 1 else sizes[0]


def _percent(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _asked(name: str, outcomes: list[Outcome]) -> str:
    aims, not_reached = GROUPS[name].aims, missed(GROUPS[name], outcomes)
    return ", ".join(f"{word} <= {100 * aim:g} %{' (missed)' * (word in not_reached)}" for word, aim in aims.items())


def _coverage(outcomes: list[Outcome]) -> Iterator[str]:
    run = [outcome.predicted for outcome in outcomes if outcome.predicted is not None]
    yield "## What is covered\n"
    models = len({o.row["model_config"] for o in outcomes if o.predicted is not None})
    yield f"{len(run)} rows of {models} models or modules, by card and by the version of PyTorch that was followed:\n"
    counts = Counter((said.card, parse_version(said.torch)) for said in run)
    versions = sorted({version for _, version in counts})
    yield f"| card | {' | '.join(f'{major}.{minor}' for major, minor in versions)} |"
    yield f"|---|{'--:|' * len(versions)}"
    for card in sorted({said.card for said in run}):
        yield f"| {card} | {' | '.join(str(counts[card, version] or '') for version in versions)} |"
    yield ""


def _group(group: Group, outcomes: list[Outcome]) -> Iterator[str]:
    errors = errors_of(outcomes)
    answers = [outcome for outcome in outcomes if outcome.predicted is not None and outcome.predicted.answer]
    if not (errors or answers):
        return
    notes = _Notes()
    yield f"## {group.name}: {group.title}\n"
    yield f"    python -m benchmarks.truth --group {group.name}\n"
    if answers:
        yield from _answers(answers)
    if not errors:
        return
    yield "| row | card | tier | predicted, MiB | measured, MiB | error | published as | named before |"
    yield "|---|---|---|--:|--:|--:|---|---|"
    for error in errors:
        yield _line(error, notes)
    yield ""
    yield from notes.lines()


def _answers(outcomes: list[Outcome]) -> Iterator[str]:
    yield "| row | card | published | predicted | as published |"
    yield "|---|---|---|---|---|"
    for outcome in outcomes:
        said = outcome.predicted
        assert said is not None
        published = "out of memory" if outcome.row["value"] == "OOM" else outcome.row["notes"].replace("|", "/")
        yield f"| {outcome.row.id} | {said.card} | {published} | {said.answer} | {'yes' if said.right else 'no'} |"
    yield ""


def _line(error: Error, notes: _Notes) -> str:
    row, said = error.outcome.row, error.outcome.predicted
    assert said is not None
    cells = (
        row.id,
        said.card,
        error.tier,
        f"{said.figures[error.tier] / MiB:,.1f}",
        f"{row.measured[error.tier] / MiB:,.1f}",
        _percent(error.value) if error.value else "exact",
        row["precision_class"],
        notes.numbers(said.flags),
    )
    return f"| {' | '.join(cells)} |"


class _Notes:
    """What reports said beforehand, each thing written once below its table."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def numbers(self, flags: list[str]) -> str:
        return ", ".join(str(self._numbers.setdefault(flag, len(self._numbers) + 1)) for flag in flags)

    def lines(self) -> Iterator[str]:
        for flag, number in self._numbers.items():
            yield f"{number}. {flag}"
        if self._numbers:
            yield ""


def _not_run(outcomes: list[Outcome]) -> Iterator[str]:
    absent = [outcome for outcome in outcomes if outcome.predicted is None]
    if not absent:
        return
    yield "## Rows that are not run\n"
    reasons: dict[str, list[str]] = {}
    for outcome in absent:
        reasons.setdefault(outcome.why, []).append(outcome.row.id)
    for why, ids in reasons.items():
        yield f"- {why}: {', '.join(ids)}"


def unexplained(outcomes: Iterable[Outcome]) -> list[Error]:
    """Figures that are under by more than 2 % although the report had named nothing that it does not count."""
    return [error for error in errors_of(outcomes) if error.value < UNDER and not _warned(error.outcome)]


def _warned(outcome: Outcome) -> bool:
    assert outcome.predicted is not None
    return any(flag.startswith("not counted: ") for flag in outcome.predicted.flags)


def missed(group: Group, outcomes: Iterable[Outcome]) -> list[str]:
    """Which of the group's aims its outcomes do not reach: "median", "p90", "worst"."""
    sizes = [abs(error.value) for error in errors_of(outcomes)] or [0.0]
    reached = {"median": median(sizes), "p90": _percentile(sizes, 90), "worst": max(sizes)}
    return [word for word, aim in group.aims.items() if reached[word] > aim]
