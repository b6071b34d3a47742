"""The published tables beside what the virtual GPU says.

Runs `measure.py`, an ordinary measuring script, on a virtual RTX 3060 Laptop by the rules of PyTorch 2.7.1, and prints
each cell of the report beside it. A cell that differs is explained to the byte: which block of the allocator's cache
was handed out whole although it was larger than asked.

    python benchmarks/tables/tables.py            the libraries that are installed
    make tables                                   those of the report's month; exits 1 unless all 11 cells agree
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import tonnage
from tonnage.allocator import Timeline, replay
from tonnage.recording import Recording
from tonnage.workload.libraries import load

sys.path.insert(0, str(Path(__file__).parent))
import measure

PUBLISHED = Path(__file__).parents[2] / "tests" / "truth" / "seed_tables.json"
CARD = "RTX 3060 Laptop"
TORCH = "2.7.1"
READING = "memory_allocated"
BLOCK = 512


@dataclass(frozen=True)
class Slack:
    """A block that was larger than asked, rounding aside."""

    operator: str
    asked: int
    block: int

    @property
    def extra(self) -> int:
        return self.block - rounded(self.asked)


@dataclass(frozen=True)
class Cell:
    """One cell: what was published in MiB (None: not in the report) and what came out, in bytes."""

    model: str
    batch: int
    seq: int | None
    published: float | None
    measured: float
    slack: tuple[Slack, ...]

    @property
    def agrees(self) -> bool:
        return self.published is None or round(self.measured / measure.MiB, 2) == self.published

    @property
    def without_slack(self) -> float:
        """What every block cut to a multiple of 512 bytes would have given."""
        return self.measured - sum(s.extra for s in self.slack)


def rounded(nbytes: int) -> int:
    return -(-nbytes // BLOCK) * BLOCK


@contextmanager
def readings_marked(gpu: tonnage.virtual.VirtualGpu) -> Iterator[None]:
    """A block in which each reading of `torch.cuda.memory_allocated` leaves a mark in the recording."""
    read = torch.cuda.memory_allocated

    def marked(*args: Any) -> int:
        gpu.mark(READING)
        return read(*args)

    torch.cuda.memory_allocated = marked
    try:
        yield
    finally:
        torch.cuda.memory_allocated = read


def run() -> list[Cell]:
    """Every cell of the two tables, in the order they are measured in."""
    torchvision, transformers = load("torchvision"), load("transformers")
    with tonnage.virtual_gpu(CARD, torch_version=TORCH) as gpu:
        with gpu.host():
            vgg16 = torchvision.models.vgg16()
            t5_small = transformers.T5ForConditionalGeneration(transformers.T5Config())
        with readings_marked(gpu):
            measured = measure.measure(vgg16, t5_small)
    return list(_cells(measured, gpu.recording))


def _cells(measured: dict[str, list[dict[str, Any]]], recording: Recording) -> Iterator[Cell]:
    published = _published()
    timeline = replay(recording.ledger)
    marks = [index for name, index in recording.ledger.mark_positions() if name == READING]
    per_cell = 2 * measure.REPEATS
    flat = [(model, cell) for model, cells in measured.items() for cell in cells]
    for number, (model, cell) in enumerate(flat):
        before, after = marks[(number + 1) * per_cell - 2 : (number + 1) * per_cell]
        key = (model, cell["batch"], cell.get("seq"))
        slack = tuple(_slack(recording, timeline, before, after))
        yield Cell(*key, published.get(key), cell["bytes"], slack)


def _slack(recording: Recording, timeline: Timeline, before: int, after: int) -> Iterator[Slack]:
    ledger = recording.ledger
    for number in sorted(set(ledger.live(after)) - set(ledger.live(before))):
        asked, block = ledger.sizes[number], timeline.block_sizes[number]
        if block > rounded(asked):
            yield Slack(recording.trace.ops[ledger.ops[number]].name, asked, block)


def _published() -> dict[tuple[str, int, int | None], float]:
    tables = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    vgg16 = {("vgg16", cell["batch"], None): cell["MiB"] for cell in tables["vgg16"]}
    return vgg16 | {("t5_small", c["batch"], c["seq"]): c["MiB"] for c in tables["t5_small"]["cells"]}


def page(cells: list[Cell]) -> Iterator[str]:
    """The lines of the comparison."""
    yield f"{CARD}, PyTorch {TORCH}: increase of memory_allocated over one forward pass, in MiB"
    yield f"{'model':10}{'batch':>6}{'seq':>6}{'published':>11}{'virtual':>11}   "
    seen = set()
    for cell in cells:
        key = (cell.model, cell.batch, cell.seq)
        if key in seen:
            continue
        seen.add(key)
        published = "" if cell.published is None else f"{cell.published:.2f}"
        mark = "" if cell.published is None else "✓" if cell.agrees else "✗"
        yield (
            f"{cell.model:10}{cell.batch:>6}{cell.seq or '':>6}{published:>11}"
            f"{cell.measured / measure.MiB:>11.4f} {mark}"
        )
        if not cell.agrees:
            yield from _why(cell)
    compared = {(c.model, c.batch, c.seq): c.agrees for c in cells if c.published is not None}
    yield f"{sum(compared.values())} of {len(compared)} cells to the printed digit"


def _why(cell: Cell) -> Iterator[str]:
    for slack in cell.slack:
        yield (
            f"{'':10}{slack.operator} asked {slack.asked:,} B and got a cached block of {slack.block:,} B whole "
            f"(+{slack.extra:,} B: 1 MiB or less is not split off)"
        )
    yield f"{'':10}without: {cell.without_slack / measure.MiB:.4f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", action="store_true", help="exit 1 unless every published cell agrees")
    options = parser.parse_args()
    cells = run()
    print(*page(cells), sep="\n")
    return int(options.exact and not all(cell.agrees for cell in cells))


if __name__ == "__main__":
    raise SystemExit(main())
