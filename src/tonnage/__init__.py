"""tonnage: weigh a neural network before you load it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from tonnage.errors import TonnageError as TonnageError
    from tonnage.gpus import Card as Card
    from tonnage.gpus import all_cards as all_cards
    from tonnage.gpus import find_card as find_card
    from tonnage.pipeline import compare as compare
    from tonnage.pipeline import export as export
    from tonnage.pipeline import flops as flops
    from tonnage.pipeline import measure as measure
    from tonnage.pipeline import params as params
    from tonnage.pipeline import structure as structure
    from tonnage.pipeline import weigh as weigh
    from tonnage.recording import Recording as Recording
    from tonnage.report import Report as Report
    from tonnage.virtual import virtual_gpu as virtual_gpu

_HOMES = {
    "Card": "tonnage.gpus",
    "Recording": "tonnage.recording",
    "Report": "tonnage.report",
    "TonnageError": "tonnage.errors",
    "all_cards": "tonnage.gpus",
    "compare": "tonnage.pipeline",
    "export": "tonnage.pipeline",
    "find_card": "tonnage.gpus",
    "flops": "tonnage.pipeline",
    "measure": "tonnage.pipeline",
    "params": "tonnage.pipeline",
    "structure": "tonnage.pipeline",
    "virtual_gpu": "tonnage.virtual",
    "weigh": "tonnage.pipeline",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Loads a public name on first use, so that `import tonnage` imports no torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
