"""A predicted and a measured recording of one run, compared: what differs, where, and whose mistake it is."""

from tonnage.analyses.comparison.comparing import TOLERANCE, compare_sides
from tonnage.analyses.comparison.figures import (
    Comparison,
    Events,
    Figure,
    Moment,
    Part,
    Residual,
    SideFacts,
    Tier,
    Verdict,
)
from tonnage.analyses.comparison.sides import Side

__all__ = [
    "TOLERANCE",
    "Comparison",
    "Events",
    "Figure",
    "Moment",
    "Part",
    "Residual",
    "Side",
    "SideFacts",
    "Tier",
    "Verdict",
    "compare_sides",
]
