"""The outcomes as a page of Markdown: who is right, who is how far off, and in what time."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools import installed

Zoo = Sequence[Mapping[str, Any]]
Key = tuple[str, str, str]
"""Tool, device, model."""


@dataclass(frozen=True)
class Outcome:
    """What one tool answered on one model: an error, memory that was missing, or counts and the seconds of each call.

    `told` names what the tool itself said it had left out.
    """

    macs: int = 0
    parameters: int | None = None
    told: str = ""
    seconds: list[float] = field(default_factory=list)
    error: str = ""
    missing: str = ""

    @property
    def answered(self) -> bool:
        return not (self.error or self.missing)

    @property
    def later(self) -> float:
        """Seconds of a call after the first, or of the only one."""
        return statistics.median(self.seconds[1:] or self.seconds)

    def counts(self, model: Mapping[str, Any]) -> bool:
        """Whether the MACs are right."""
        return self.answered and self.macs == model["forward_macs"]


def page(zoo: Zoo, versions: Mapping[str, str], outcomes: Mapping[Key, Outcome]) -> str:
    """The whole page."""
    columns = list(dict.fromkeys((tool, device) for tool, device, _ in outcomes))
    sections = [
        "# Who counts right, and in what time",
        _about(zoo, versions),
        "## In short",
        _summary(zoo, columns, outcomes),
        _against_the_fastest(zoo, columns, outcomes),
        "## Forward MACs",
        "`exact`, or how far off; `0` is an answer of nothing, without an error. A tool that said what it left out "
        "has that in brackets.",
        _table(["model", "MACs"], zoo, columns, outcomes, _macs, "forward_macs"),
        "## Parameters",
        _table(["model", "parameters"], zoo, columns, outcomes, _parameters, "parameters"),
        "## Time of the first call",
        "Milliseconds of the first call in a fresh process, what the tool imports included. Bold: the MACs are exact.",
        _table(["model", "MACs"], zoo, columns, outcomes, _first_time, "forward_macs"),
        "## Time of later calls",
        "Milliseconds of the calls after it: median (smallest to largest). Bold: the MACs are exact.",
        _table(["model", "MACs"], zoo, columns, outcomes, _time, "forward_macs"),
        "## Errors",
        "\n".join(_errors(outcomes)) or "None.",
    ]
    return "\n\n".join(sections) + "\n"


def _about(zoo: Zoo, versions: Mapping[str, str]) -> str:
    libraries = ", ".join(f"{name} {installed(name)}" for name in ("transformers", "torchvision", "timm"))
    tools = ", ".join(f"{tool} {found or '(not installed)'}" for tool, found in versions.items())
    return (
        f"`make counts` writes this page: the {len(zoo)} models of `tests/truth/zoo.json`, whose parameters and "
        "forward MACs were derived by hand. A MAC is one multiply-add of a matrix product or convolution; nothing "
        "else counts. "
        "Each tool is used as its documentation says (`benchmarks/counts/tools.py`), each model in a fresh process, "
        "with the model and its inputs built before the clock starts.\n\n"
        f"{tools}; {libraries}; Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}."
    )


def _summary(zoo: Zoo, columns: Sequence[tuple[str, str]], outcomes: Mapping[Key, Outcome]) -> str:
    head = ["", "MACs exact", "off", "nothing, no error", "error", "no memory", "parameters exact"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for tool, device in columns:
        found = [(model, outcomes[tool, device, model["name"]]) for model in zoo]
        exact = sum(outcome.counts(model) for model, outcome in found)
        answered = [outcome for _, outcome in found if outcome.answered]
        silent = sum(outcome.macs == 0 for outcome in answered)
        rows.append(
            [
                f"{tool}, {device}",
                f"{exact} of {len(zoo)}",
                str(len(answered) - exact - silent),
                str(silent),
                str(sum(bool(outcome.error) for _, outcome in found)),
                str(sum(bool(outcome.missing) for _, outcome in found)),
                _parameters_right(found),
            ]
        )
    return _lines(rows)


def _parameters_right(found: Sequence[tuple[Mapping[str, Any], Outcome]]) -> str:
    counted = [(model, outcome) for model, outcome in found if outcome.answered and outcome.parameters is not None]
    if not counted:
        return "counts none"
    return f"{sum(outcome.parameters == model['parameters'] for model, outcome in counted)} of {len(found)}"


def _against_the_fastest(zoo: Zoo, columns: Sequence[tuple[str, str]], outcomes: Mapping[Key, Outcome]) -> str:
    """tonnage beside the fastest peer that is right, model by model: in the first call, and in those after it."""
    kinds = {"first call": lambda outcome: outcome.seconds[0], "later calls": lambda outcome: outcome.later}
    found = {
        when: {model["name"]: _race(model, columns, outcomes, seconds_of) for model in zoo}
        for when, seconds_of in kinds.items()
    }
    sentences = [_in_all(when, [race for race in races.values() if race]) for when, races in found.items()]
    head = ["model", *(text for when in kinds for text in (f"{when}: the fastest peer", "tonnage takes, times that"))]
    rows = [head, ["---", *["---", "---:"] * len(kinds)]]
    for model in zoo:
        races = [found[when][model["name"]] for when in kinds]
        cells = [text for race in races for text in ((race[0], f"{race[1]:.2f}") if race else ("none", ""))]
        rows.append([model["name"], *cells])
    return "\n\n".join([*filter(None, sentences), _lines(rows)])


def _race(
    model: Mapping[str, Any],
    columns: Sequence[tuple[str, str]],
    outcomes: Mapping[Key, Outcome],
    seconds_of: Callable[[Outcome], float],
) -> tuple[str, float] | None:
    """The fastest peer that is right, and how many times its time tonnage takes; None if either is not right."""
    right = [
        (seconds_of(outcome), tool, device)
        for tool, device in columns
        if (outcome := outcomes[tool, device, model["name"]]).counts(model)
    ]
    ours = [seconds for seconds, tool, _ in right if tool == "tonnage"]
    theirs = [entry for entry in right if entry[1] != "tonnage"]
    if not ours or not theirs:
        return None
    seconds, tool, device = min(theirs)
    return f"{tool}, {device}", min(ours) / seconds


def _in_all(when: str, races: Sequence[tuple[str, float]]) -> str:
    if not races:
        return ""
    ratios = [ratio for _, ratio in races]
    return (
        f"Against the fastest peer that is right, model by model, {when}: tonnage takes "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times its time; not slower "
        f"on {sum(ratio <= 1 for ratio in ratios)} of {len(ratios)}."
    )


def _table(
    head: Sequence[str], zoo: Zoo, columns: Sequence[tuple[str, str]], outcomes: Any, cell: Any, truth: str
) -> str:
    rows = [[*head, *(f"{tool}, {device}" for tool, device in columns)]]
    rows.append(["---", *["---:"] * (len(rows[0]) - 1)])
    for model in zoo:
        cells = (cell(model, outcomes[tool, device, model["name"]]) for tool, device in columns)
        rows.append([model["name"], f"{model[truth]:,}", *cells])
    return _lines(rows)


def _macs(model: Mapping[str, Any], outcome: Outcome) -> str:
    if not outcome.answered:
        return outcome.missing or "error"
    told = f" [{outcome.told}]" if outcome.told else ""
    return _off(outcome.macs, model["forward_macs"]) + told


def _parameters(model: Mapping[str, Any], outcome: Outcome) -> str:
    if not outcome.answered:
        return outcome.missing or "error"
    return "" if outcome.parameters is None else _off(outcome.parameters, model["parameters"])


def _off(counted: int, truth: int) -> str:
    if counted == truth:
        return "exact"
    return f"{100 * (counted / truth - 1):+,.3g} %" if counted else "0"


def _first_time(model: Mapping[str, Any], outcome: Outcome) -> str:
    if not outcome.answered:
        return outcome.missing or "error"
    text = f"{1000 * outcome.seconds[0]:,.0f}"
    return f"**{text}**" if outcome.counts(model) else text


def _time(model: Mapping[str, Any], outcome: Outcome) -> str:
    if not outcome.answered:
        return outcome.missing or "error"
    text = _spread(outcome.seconds[1:] or outcome.seconds)
    return f"**{text}**" if outcome.counts(model) else text


def _spread(seconds: Sequence[float]) -> str:
    low, middle, high = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    digits = 1 if middle < 100 else 0
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _errors(outcomes: Mapping[Key, Outcome]) -> Iterator[str]:
    """Each error once, with what it was met on."""
    met: dict[tuple[str, str, str], list[str]] = {}
    for (tool, device, model), outcome in outcomes.items():
        if outcome.error:
            met.setdefault((tool, device, outcome.error), []).append(model)
    for (tool, device, error), models in met.items():
        yield f"- {tool} on {device} ({', '.join(models)}): `{error[:300]}`"


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
