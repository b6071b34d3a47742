"""Pages show what their commands print."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def _script():
    spec = importlib.util.spec_from_file_location("command_output", DOCS / "command_output.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()


@pytest.mark.parametrize("name", script.PAGES)
def test_the_page_shows_what_its_commands_print(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    assert script.BLOCK.search(text)
    assert script.page(text) == text, "run `python docs/command_output.py`"


def test_what_stands_below_a_command_is_replaced():
    text = "before\n```text\n$ tonnage params \\\n    t5-small --at d_model=512\nold\n```\nafter\n"
    assert script.page(text) == text.replace("old", "60,506,624")  # tests/truth/seed_tables.json


def test_commands_write_to_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "```text\n$ tonnage params t5-small --worksheet out\n$ cat out/worksheet.md\n```"
    assert "# Count the parameters: t5-small\n" in script.page(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["$ rm -r out\n", "$ tonnage params no-such-model\n"])
def test_what_cannot_be_run_is_no_empty_block(command):
    with pytest.raises(AssertionError):
        script.page(f"```text\n{command}```")
