"""The stages in order, one function for each thing that can be asked. Nothing is worked out here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonnage.pipeline.comparing import compare as compare
    from tonnage.pipeline.counting import count_at as count_at
    from tonnage.pipeline.counting import params as params
    from tonnage.pipeline.exporting import export as export
    from tonnage.pipeline.measuring import measure as measure
    from tonnage.pipeline.structuring import structure as structure
    from tonnage.pipeline.weighing import weigh as weigh
    from tonnage.pipeline.working import flops as flops

_HOMES = {
    "compare": "comparing",
    "count_at": "counting",
    "export": "exporting",
    "flops": "working",
    "measure": "measuring",
    "params": "counting",
    "structure": "structuring",
    "weigh": "weighing",
}


def __getattr__(name: str) -> Any:
    """Loads a stage on first use: closed forms need sympy, and a count does not."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
