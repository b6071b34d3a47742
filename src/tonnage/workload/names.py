"""Near names, for messages about a name that nothing resolves."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """A hint with the known names nearest to `name`, or `otherwise`."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else otherwise
