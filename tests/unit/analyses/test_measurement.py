"""Figures of recordings made by hand."""

from __future__ import annotations

from tonnage.analyses.measurement import figures_of, measurement_of
from tonnage.ledger import Category, Ledger
from tonnage.recording import PEAK, CardMemory, Environment, ProcessMemory, Recording
from tonnage.trace import Trace

CPU = Environment(
    device="CPU",
    device_type="cpu",
    compute_capability=(0, 0),
    sm_count=0,
    total_memory=1 << 34,
    context_bytes=10,
    context_bytes_low=10,
    context_bytes_high=10,
    torch_rules="2.13.0",
    torch_running="2.13.0",
    python="3.11",
    measured=True,
)


def recording(extra=0):
    """1000 B before the start that are gone, 100 B of weights, 7 B of output, a kernel's own 50 B beside it."""
    ledger = Ledger()
    ledger.free(ledger.alloc(1000))
    ledger.alloc(100, category=Category.PARAMETER)
    ledger.mark("start")
    ledger.mark("model loaded")
    ledger.alloc(7 + extra, category=Category.OUTPUT)
    own = ledger.alloc(50, category=Category.WORKSPACE)
    ledger.free(own)
    ledger.mark("forward done")
    process = [ProcessMemory("model loaded", 500), ProcessMemory("forward done", 600), ProcessMemory(PEAK, 700)]
    return Recording(ledger, Trace(), CPU, process=process)


def test_the_classic_figures():
    found = figures_of(recording(), complete=True)
    assert (found.before, found.after, found.increase) == (100, 107, 7)
    assert (found.peak_allocated, found.peak_reserved, found.peak_tensors) == (157, 157, 107)
    assert (found.process_before, found.process_after, found.process_peak) == (500, 600, 700)


def test_a_run_that_did_not_get_far():
    ledger = Ledger()
    ledger.mark("start")
    ledger.alloc(8)
    found = figures_of(Recording(ledger, Trace(), CPU), complete=False)
    assert (found.before, found.after, found.increase, found.process_peak) == (None, None, None, None)
    assert found.peak_allocated == 8


def test_a_card_speaks_for_itself():
    made = recording()
    made.card = [
        CardMemory("model loaded", 512, 2 << 20),
        CardMemory("forward done", 1024, 4 << 20),
        CardMemory(PEAK, 9000, 6 << 20),
    ]
    found = figures_of(made, complete=True)
    assert (found.before, found.after, found.increase) == (512, 1024, 512)
    assert (found.peak_allocated, found.peak_reserved, found.peak_tensors) == (9000, 6 << 20, None)


def test_the_spread_is_over_complete_runs():
    found = measurement_of(
        [recording(), recording(extra=4), recording(extra=1000)],
        complete=[True, True, False],
        repeats=3,
        warmup=0,
        device="cpu",
        in_process=True,
        failure=None,
    )
    increase = found.spread["increase"]
    assert (increase.mean, increase.deviation, increase.least, increase.most) == (9, 2, 7, 11)
    assert len(found.runs) == 3
