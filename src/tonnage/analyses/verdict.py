"""The answer to "will it fit", as a value; `fit` finds it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tonnage.analyses.known import Known

Answer = Literal["fits", "tight", "does not fit"]


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a run fits a card that nothing else uses.

    "fits" holds at the unfavourable ends of what the card has and the process needs, "tight" only at the favourable
    ends, "does not fit" at neither. `total_bytes` is what PyTorch reports of a typical card, `available_bytes` what of
    it the process may use: less only under per_process_memory_fraction. `needed_bytes` is the least that the process
    can run with; the allocator may first have to give its cached blocks back (`gives_back`). `headroom_bytes` is
    available less needed, negative when it is short; low and high are the ends of the ranges. `runs_out` is the place
    at which the typical card has no memory left, "" if it lasts.
    """

    answer: Answer
    card: str
    total_bytes: int
    total_low: int
    total_high: int
    available_bytes: int
    needed_bytes: int
    gives_back: bool
    headroom_bytes: int
    headroom_low: int
    headroom_high: int
    runs_out: str = ""
    known: Known = "modelled"
    total_known: Known

    @property
    def fits(self) -> bool:
        """Whether the run lasts on the typical card."""
        return self.headroom_bytes >= 0
