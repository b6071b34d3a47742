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
    known = read(kept) if kept is not None and kept.exists() else {}
    yield from (known[row.id] for row in rows if row.id in known)
    waiting = [row for row in rows if row.id not in known]
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=ROWS_PER_PROCESS) as pool:
        for outcome in pool.imap_unordered(run_row, waiting):
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(outcome.to_json()) + "\n")
            yield outcome


def save(path: Path, outcomes: list[Outcome]) -> None:
    """Writes outcomes in the order of their rows, so that two runs that agree give the same file but for the times."""
    lines = sorted((outcome.row.group, outcome.row.id, json.dumps(outcome.to_json())) for outcome in outcomes)
    path.write_text("".join(f"{line}\n" for *_, line in lines), encoding="utf-8")


def read(path: Path) -> dict[str, Outcome]:
    """The outcomes that `path` holds, by the id of their rows; those of rows that are gone are left out."""
    rows = {row.id: row for group in GROUPS.values() for row in group.rows}
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["id"]: _outcome(rows[line["id"]], line) for line in lines if line["id"] in rows}


def _outcome(row: Row, kept: dict[str, Any]) -> Outcome:
    said = kept["predicted"]
    return Outcome(row, None if said is None else Predicted(**said), kept["why"], kept["seconds"])
