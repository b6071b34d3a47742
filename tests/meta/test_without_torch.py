"""A saved report opens in a blink, because nothing on the way to it loads PyTorch, and a count loads no sympy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "transformers"}


def loaded_by(statement: str, heavy: set[str] = HEAVY) -> set[str]:
    """Which of the `heavy` libraries a fresh interpreter holds after `statement`."""
    script = f"{statement}\nimport sys\nprint('\\nloaded:', *({heavy!r} & sys.modules.keys()))"
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


WEIGHED = """
import sys
import torch
from torch import nn
import tonnage
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 2))
report = tonnage.weigh(model, inputs=((torch.ones(4, 8),), {}))
assert report.compute.macs == 4 * (8 * 8 + 8 * 2)
assert report.parameters.total == 8 * 8 + 8 + 8 + 8 + 8 * 2 + 2
"""


def test_weighing_loads_no_sympy():
    """GIVEN a model of plain layers, WHEN it is weighed, THEN nothing loads what takes longer than the weighing."""
    assert loaded_by(WEIGHED, {"sympy", "torch._dynamo"}) == set()


def test_a_closed_form_does_load_sympy():
    """GIVEN the same model, WHEN a closed form is asked for, THEN the check sees it."""
    assert "sympy" in loaded_by(WEIGHED + "report.compute.formula", {"sympy"})
