"""How a number is known; every number that tonnage shows says one of these."""

from __future__ import annotations

from typing import Literal

Known = Literal["exact", "modelled", "assumed", "measured"]
"""exact: follows from shapes and source. modelled: a rule, checked against recordings. assumed: a constant or an
unknowable value, named. measured: read from a device."""
