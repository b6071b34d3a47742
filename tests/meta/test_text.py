"""The project runs anywhere: no file of it names a path of somebody's machine or a package index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", "src", "tests", "docs", "benchmarks", "tools")
ELSEWHERE = re.compile(
    r"""file://
    | (?<![\w.\]}-])/(?: home | Users | root | work | mnt | opt )/\w
    | (?: pypi | pythonhosted | download\.pytorch )\.org
    | --(?: extra- )? index-url | --find-links | trusted-host
    """,
    re.VERBOSE,
)


def texts() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name != ".git")
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.parent.name != "__pycache__")


def test_no_machine_and_no_index_is_named():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if ELSEWHERE.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "see /home/someone/project/notes.md",
        "open('/Users/someone/x')",
        "find-links = file:///wheels",
        "pip install --index-url https://example.com/simple torch",
        "https://download.pytorch.org/whl/cpu",
    ],
)
def test_the_search_finds(line):
    assert ELSEWHERE.search(line)


@pytest.mark.parametrize("line", ["https://github.com/a/b/work/x.py", "{root}/work/x", "src/tonnage/work.py", "/tmp/x"])
def test_the_search_leaves_alone(line):
    assert not ELSEWHERE.search(line)
