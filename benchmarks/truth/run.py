"""Runs rows, each group in processes of its own, and keeps what is finished if it is interrupted."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.truth.groups import GROUPS
from benchmarks.truth.rows import NotRun, Predicted, Row

ROWS_PER_PROCESS = 20
"""A process that has recorded large models holds on to host memory; a new one takes over after so many rows."""


@dataclass(frozen=True)
class Outcome:
    """A row with what was predicted, or why it was not."""

    row: Row
    predicted: Predicted | None = None
    why: str = ""
    seconds: float = 0.0

    @property
    def ratios(self) -> dict[str, float]:
        """Predicted over measured, by tier."""
        if self.predicted is None:
            return {}
        figures = self.predicted.figures
        return {tier: figures[tier] / bytes_ for tier, bytes_ in self.row.measured.items() if tier in figures}

    def to_json(self) -> dict[str, Any]:
        said = None if self.predicted is None else asdict(self.predicted)
        return {"id": self.row.id, "predicted": said, "why": self.why, "seconds": round(self.seconds, 2)}


def run_row(row: Row) -> Outcome:
    """The outcome of one row, in this process. What goes wrong in a script is a mistake of ours and is raised."""
    start = time.perf_counter()
    try:
        said = GROUPS[row.group].run(row)
    except NotRun as reason:
        return Outcome(row, why=str(reason))
    return Outcome(row, said, seconds=time.perf_counter() - start)


def run_rows(rows: list[Row], *, jobs: int, kept: Path | None = None) -> Iterator[Outcome]:
    """The outcomes as they come; those that `kept` already has are taken from it, and new ones are added to it."""
    known = _read(kept)
    yield from (_outcome(row, known[row.id]) for row in rows if row.id in known)
    waiting = [row for row in rows if row.id not in known]
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=ROWS_PER_PROCESS) as pool:
        for outcome in pool.imap_unordered(run_row, waiting):
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(outcome.to_json()) + "\n")
            yield outcome


def _read(kept: Path | None) -> dict[str, dict[str, Any]]:
    if kept is None or not kept.exists():
        return {}
    lines = kept.read_text(encoding="utf-8").splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


def _outcome(row: Row, kept: dict[str, Any]) -> Outcome:
    said = kept["predicted"]
    return Outcome(row, None if said is None else Predicted(**said), kept["why"], kept["seconds"])
