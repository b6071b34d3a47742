"""The docs lead somewhere, cover every command, and show what the code really prints."""

from __future__ import annotations

import doctest
import importlib.util
import re
from importlib import import_module
from pathlib import Path

import pytest

from tonnage.cli import tonnage as command_line

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OUTSIDE = ("http://", "https://", "mailto:")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    """The anchors of a page, made from its headings as GitHub makes them."""
    lines = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if link.startswith(OUTSIDE):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_resolve(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](page.md#one) [d](none.md) [e](https://example.com/)", "utf-8")
    assert broken_links(page) == ["#two", "none.md"]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=ids)
def test_the_map_shows_every_page(page):
    index = DOCS / "index.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert page == index or page in linked


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_every_command_has_a_section(name):
    anchors = {anchor for page in DOCS.rglob("*.md") for anchor in headings(page)}
    assert f"tonnage-{name}" in anchors


def test_help_is_what_the_commands_print():
    spec = importlib.util.spec_from_file_location("commands_help", DOCS / "commands_help.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert {found[1] for found in script.BLOCK.findall(text)} == set(command_line.commands)
    assert script.page(text) == text, "run `python docs/commands_help.py`"


def has_examples(path: Path) -> bool:
    return ">>> " in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*filter(has_examples, PAGES)], ids=ids)
def test_examples_of_a_page_print_what_they_show(page, capsys):
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("module", [*filter(has_examples, SOURCES)], ids=ids)
def test_examples_of_a_module_print_what_they_show(module, capsys):
    name = ".".join(module.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0, capsys.readouterr().out


def test_a_wrong_example_is_found(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(">>> 1 + 1\n3\n", encoding="utf-8")
    assert doctest.testfile(str(page), module_relative=False).failed == 1
