"""Writes the catalogue's cards into docs/gpus.md, between its two markers: `python docs/gpus_table.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tonnage.gpus import Card, MemoryRange, all_cards
from tonnage.units import KiB, MiB

PAGE = Path(__file__).with_name("gpus.md")
BEGIN, END = "<!-- cards: written by gpus_table.py -->", "<!-- end of cards -->"
COLUMNS = {
    "card": "name",
    "also called": "aliases",
    "PyTorch prints": "torch_name",
    "capability": "compute_capability",
    "SMs": "sm_count",
    "threads/SM": "max_threads_per_sm",
    "shared KiB/block": "shared_memory_per_block_optin",
    "total_memory MiB": "total_memory",
    "nvidia-smi MiB": "nominal_memory",
    "GB/s": "bandwidth",
    "dense TFLOP/s": "peak_flops",
}


def table() -> str:
    """The catalogue as one Markdown table; a value whose source was not read carries a `~`."""
    rows = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    rows += [" | ".join(_cells(card)) for card in all_cards()]
    return "\n".join(f"| {row} |" for row in rows)


def page(text: str) -> str:
    """`text` with what stands between the markers replaced by the present table."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _cells(card: Card) -> Iterator[str]:
    values = {
        "name": card.name,
        "aliases": ", ".join(card.aliases),
        "torch_name": card.torch_name,
        "compute_capability": "{}.{}".format(*card.compute_capability),
        "sm_count": str(card.sm_count),
        "max_threads_per_sm": str(card.max_threads_per_sm),
        "shared_memory_per_block_optin": str(card.shared_memory_per_block_optin // KiB),
        "total_memory": _range(card.total_memory),
        "nominal_memory": f"{card.nominal_memory / MiB:,.0f}",
        "bandwidth": "" if card.bandwidth is None else f"{card.bandwidth // 10**9:,}",
        "peak_flops": ", ".join(f"{name} {rate / 1e12:g}" for name, rate in card.peak_flops.items()),
    }
    for field in COLUMNS.values():
        fact = card.facts.get(field)
        yield ("~" if fact and not fact.verified else "") + values[field]


def _range(memory: MemoryRange) -> str:
    low, high, typical = (f"{size / MiB:,.0f}" for size in (memory.low, memory.high, memory.typical))
    return typical if low == high else f"{typical} ({low} to {high})"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
