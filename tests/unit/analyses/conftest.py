"""Recordings made event by event."""

from __future__ import annotations

import pytest

from tonnage.ledger import Ledger
from tonnage.recording import Environment, Recording
from tonnage.trace import Module, Op, Trace

MiB = 2**20


def make_environment(*, context: int = 100 * MiB, low: int = 80 * MiB, high: int = 150 * MiB) -> Environment:
    return Environment(
        device="T4",
        compute_capability=(7, 5),
        sm_count=40,
        total_memory=1024 * MiB,
        context_bytes=context,
        context_bytes_low=low,
        context_bytes_high=high,
        torch_rules="2.7.1",
        torch_running="2.13.0",
        python="3.11.2",
    )


@pytest.fixture
def recording():
    """A recording without events, of a trace with one operator: a matrix product in forward of `layer.0`."""
    trace = Trace(modules=[Module("", "Net"), Module("layer.0", "Linear")])
    trace.ops.append(Op("aten.mm.default", 1, 1, (), ()))
    return Recording(Ledger(), trace, make_environment())
