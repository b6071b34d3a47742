"""A person's own derivation of a parameter count, checked term by term against the model."""

from __future__ import annotations

from tonnage.analyses.derivation.checking import check
from tonnage.analyses.derivation.reading import parse_derivation, read_derivation
from tonnage.analyses.derivation.results import (
    Cause,
    CauseKind,
    Checked,
    CheckedTerm,
    Correction,
    Cover,
    Derivation,
    Term,
)

__all__ = [
    "Cause",
    "CauseKind",
    "Checked",
    "CheckedTerm",
    "Correction",
    "Cover",
    "Derivation",
    "Term",
    "check",
    "parse_derivation",
    "read_derivation",
]
