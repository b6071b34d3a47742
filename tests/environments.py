"""The card that hand-made recordings are of."""

from __future__ import annotations

from dataclasses import replace

from tonnage.recording import Environment
from tonnage.units import MiB


def t4(**changes) -> Environment:
    """A T4 of one GiB whose context is 100 MiB, in a range of 80 to 150."""
    environment = Environment(
        device="T4",
        compute_capability=(7, 5),
        sm_count=40,
        total_memory=1024 * MiB,
        context_bytes=100 * MiB,
        context_bytes_low=80 * MiB,
        context_bytes_high=150 * MiB,
        torch_rules="2.13.0",
        torch_running="2.13.0",
        python="3.11.2",
    )
    return replace(environment, **changes)
