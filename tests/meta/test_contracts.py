"""The import contracts would catch what they are there for; that they hold is checked by `make lint`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(copy: Path) -> subprocess.CompletedProcess[str]:
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, to break."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "data"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("units.py", "import tonnage.report", "imports go one way BROKEN"),
        ("analyses/memory.py", "import torch", "a saved report opens without torch BROKEN"),
        ("virtual/gpu.py", "import tonnage.analyses.memory", "recorders write facts and do not judge BROKEN"),
        ("newcomer.py", "", "imports go one way BROKEN"),
    ],
)
def test_a_violation_is_caught(copy, module, line, contract):
    """GIVEN one forbidden import (or a module that has no place in the order), THEN its contract is broken."""
    with (copy / "src" / "tonnage" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert contract in done.stdout
