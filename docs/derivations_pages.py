"""Writes what checking the worked examples prints into docs/derivations.md: `python docs/derivations_pages.py`."""

from __future__ import annotations

import io
import re
from pathlib import Path

import tonnage
from tonnage.analyses.derivation import Checked, check, read_derivation
from tonnage.render.derivation import checked_page

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("derivations.md")
BLOCK = re.compile(
    r"^```text\n(?P<command>\$ tonnage params (?P<model>\S+) --check (?P<file>\S+)(?: --lang (?P<lang>\w+))?)\n"
    r".*?^```$",
    re.MULTILINE | re.DOTALL,
)
WIDTH = 80


def checked(model: str, file: str) -> Checked:
    form = tonnage.params(model).parameters.form
    assert form is not None
    return check(read_derivation(str(ROOT / file)), form)


def page(text: str) -> str:
    """`text` with every block replaced by what its command prints now."""
    return BLOCK.sub(_block, text)


def _block(found: re.Match[str]) -> str:
    result = checked(found["model"], found["file"])
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    lang = "zh" if found["lang"] == "zh" else "en"
    printed = checked_page(result, stream, name=found["model"], lang=lang, width=WIDTH)
    return f"```text\n{found['command']}\n{printed}```"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
