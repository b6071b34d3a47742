"""Published measurements at CI's size; `make truth` runs them all and writes docs/accuracy.md."""

from __future__ import annotations

import pytest

from benchmarks.truth.groups import GROUPS
from benchmarks.truth.run import run_row

pytest.importorskip("transformers")

QUICK = [row for group in GROUPS.values() for row in group.rows if row.id in group.quick]


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.id)
def test_within_what_the_group_promises(row) -> None:
    outcome = run_row(row)
    worst = GROUPS[row.group].worst
    assert outcome.ratios and all(abs(ratio - 1) <= worst for ratio in outcome.ratios.values())
