"""Every published measurement that the virtual GPU can be asked, beside what it says.

python -m benchmarks.truth                              all rows, to the terminal
python -m benchmarks.truth --group t4_amp_training      some
python -m benchmarks.truth --match gpt2
python -m benchmarks.truth --write docs/accuracy.md     all, and the page (make truth)
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from benchmarks.truth.groups import GROUPS
from benchmarks.truth.page import page
from benchmarks.truth.rows import Row
from benchmarks.truth.run import Outcome, read, run_rows, save

ROOT = Path(__file__).parents[2]
LAST = ROOT / "tests" / "truth" / "accuracy.jsonl"
PAGE = ROOT / "docs" / "accuracy.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=GROUPS, action="append", help="only this group; may be given again")
    parser.add_argument("--match", default="", help="only rows whose id matches this regular expression")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="a file for finished rows; a later run goes on from it")
    parser.add_argument("--write", action="store_true", help="save the outcomes, and write docs/accuracy.md")
    chosen = parser.parse_args()
    outcomes = []
    for outcome in run_rows(_rows(chosen.group, chosen.match), jobs=chosen.jobs, kept=chosen.keep):
        print(_line(outcome), flush=True)
        outcomes.append(outcome)
    if chosen.write:
        last = read(LAST) if LAST.exists() else {}
        save(LAST, [*{**last, **{outcome.row.id: outcome for outcome in outcomes}}.values()])
        PAGE.write_text(page(list(read(LAST).values())), encoding="utf-8")


def _rows(groups: list[str] | None, pattern: str) -> list[Row]:
    return [row for name in groups or GROUPS for row in GROUPS[name].rows if re.search(pattern, row.id)]


def _line(outcome: Outcome) -> str:
    if outcome.predicted is None:
        return f"{outcome.row.id}: not run: {outcome.why}"
    shown = "  ".join(f"{tier} {100 * (ratio - 1):+.2f} %" for tier, ratio in outcome.ratios.items())
    return f"{outcome.row.id}: {shown}  ({outcome.seconds:.1f} s)"


if __name__ == "__main__":
    main()
