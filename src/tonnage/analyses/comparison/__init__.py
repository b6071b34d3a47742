"""A predicted and a measured recording of one run, compared: what differs, where, and whose mistake it is."""

from tonnage.analyses.comparison.comparing import TOLERANCE, compare_sides
from tonnage.analyses.comparison.figures import (
    Comparison,
    Events,
    Figure,
    Moment,
    Part,
    Residual,
    Rest,
    SideFacts,
    Tier,
    Verdict,
    bytes_of,
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
    "Rest",
    "Side",
    "SideFacts",
    "Tier",
    "Verdict",
    "bytes_of",
    "compare_sides",
]
