"""A saved report opens in a blink, because nothing on the way to it loads PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "transformers"}


def loaded_by(statement: str) -> set[str]:
    """Which heavy libraries a fresh interpreter holds after `statement`."""
    script = f"{statement}\nimport sys\nprint('\\nloaded:', *({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import tonnage",
        "import tonnage; tonnage.Report, tonnage.Recording, tonnage.find_card, tonnage.TonnageError",
        "import tonnage.cli",
        "import tonnage.allocator",
        "import tonnage.render.terminal, tonnage.render.cards",
        "from tonnage.cli import main; main(['gpus', 'T4'])",
    ],
)
def test_loads_no_torch(statement):
    assert loaded_by(statement) == set()


def test_the_check_can_fail():
    """GIVEN a name that does need PyTorch, THEN `loaded_by` sees it."""
    assert "torch" in loaded_by("import tonnage; tonnage.virtual_gpu")
