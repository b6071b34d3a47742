"""Writes the catalogue's models into docs/models.md, between its two markers: `python docs/models_table.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tonnage.workload.catalogue import Entry, families

PAGE = Path(__file__).with_name("models.md")
BEGIN, END = "<!-- models: written by models_table.py -->", "<!-- end of models -->"
HEAD = ("| name | class | parameters | published |", "| --- | --- | ---: | --- |")


def tables() -> str:
    """One Markdown table per family."""
    return "\n\n".join("\n".join(_table(family, entries)) for family, entries in families())


def page(text: str) -> str:
    """`text` with what stands between the markers replaced by the present tables."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _table(family: str, entries: tuple[Entry, ...]) -> Iterator[str]:
    yield f"### {family}\n"
    yield from HEAD
    for entry in entries:
        names = ", ".join(f"`{name}`" for name in (entry.name, *entry.aliases))
        sign = "" if entry.exact else "≈ "
        yield f"| {names} | `{entry.architecture}` | {entry.parameters:,} | {sign}{entry.published} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
