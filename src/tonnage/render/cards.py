"""The card catalogue: all cards as a table, one card with the source of every fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from rich.table import Table
from rich.text import Text

from tonnage.gpus import Card, MemoryRange
from tonnage.render.text import console_for, glyphs_for, without_trailing_spaces
from tonnage.units import GiB, format_bandwidth, format_bytes


def cards_page(cards: Sequence[Card], stream: IO[str], *, width: int | None = None) -> str:
    """Every card on a line: what PyTorch can see of its memory, its capability and multiprocessors."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("card", overflow="fold")
    for name in ("memory, GiB", "capability", "SMs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("memory is", no_wrap=True)
    for card in cards:
        capability = ".".join(map(str, card.compute_capability))
        memory = card.facts["total_memory"]
        known = "verified" if memory.verified else "not verified"
        table.add_row(Text(glyphs.clean(card.name)), _gib(card.total_memory), capability, str(card.sm_count), known)
    with console.capture() as captured:
        console.print(table)
        console.print(Text("`tonnage gpus NAME` shows where each fact comes from"))
    return without_trailing_spaces(captured.get())


def card_page(card: Card, stream: IO[str], *, width: int | None = None) -> str:
    """One card: each fact, whether it was verified, and the number of its source below."""
    console = console_for(stream, width=width)
    glyphs = glyphs_for(console.encoding)
    sources = list(dict.fromkeys(fact.source for fact in card.facts.values()))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("fact", "value", "known", "source"):
        table.add_column(name, overflow="fold")
    for name, fact in card.facts.items():
        known = "verified" if fact.verified else "not verified"
        row = (name, _value(name, getattr(card, name)), known, f"[{sources.index(fact.source) + 1}]")
        table.add_row(*(Text(glyphs.clean(part)) for part in row))
    with console.capture() as captured:
        console.print(Text(glyphs.clean(f"{card.name}: {card.torch_name}"), style="bold"))
        console.print(Text(glyphs.clean(f"also {', '.join(card.aliases) or 'under no other name'}")))
        console.print(table)
        for number, source in enumerate(sources, start=1):
            console.print(Text(glyphs.clean(f"[{number}] {source}")))
    return without_trailing_spaces(captured.get())


def _gib(memory: MemoryRange) -> str:
    low, high = f"{memory.low / GiB:.2f}", f"{memory.high / GiB:.2f}"
    return low if low == high else f"{low} to {high}"


def _value(name: str, value: Any) -> str:
    match name:
        case "total_memory":
            return f"{format_bytes(value.low)} to {format_bytes(value.high)}, typically {format_bytes(value.typical)}"
        case "nominal_memory" | "shared_memory_per_block_optin" | "measured_context":
            return format_bytes(value)
        case "bandwidth":
            return format_bandwidth(value)
        case "compute_capability":
            return ".".join(map(str, value))
        case "peak_flops":
            return ", ".join(f"{precision} {flops / 1e12:.4g} TFLOP/s" for precision, flops in value.items())
        case _:
            return str(value)
