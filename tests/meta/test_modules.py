"""Every module says what it is for, and is short enough to be seen whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 450


def test_there_are_modules():
    assert SOURCE / "tonnage" / "__init__.py" in MODULES


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module(module):
    text = module.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring says what this module is for"
    assert len(text.splitlines()) <= MOST_LINES, "too long to be seen whole: split it by concept"
