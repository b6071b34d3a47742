"""What is run on a card: ordinary PyTorch on device "cuda", which the virtual GPU runs as well."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Mark = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """One thing to run: `run` is given a function that names instants.

    `name` is unique and holds letters, digits, `_`, `-` and `.` alone: it is a file's name too. `config` says in plain
    values what is run.
    """

    name: str
    group: str
    run: Callable[[Mark], None]
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert re.fullmatch(r"[\w.-]+", self.name), f"{self.name!r} is no name for a file"


def all_cases() -> dict[str, Case]:
    """Every case by its name, in the order in which they are recorded."""
    from benchmarks.truth.recorded import models, probes

    cases: Iterator[Case] = (case for module in (probes, models) for case in module.cases())
    found: dict[str, Case] = {}
    for case in cases:
        assert case.name not in found, f"two cases are called {case.name}"
        found[case.name] = case
    return found
