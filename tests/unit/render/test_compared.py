"""The page of a comparison, read as a person would."""

from __future__ import annotations

import io

import pytest

from tests.environments import t4
from tonnage.analyses.comparison import Side, compare_sides
from tonnage.ledger import Category, Ledger
from tonnage.recording import PEAK, CardMemory, ProcessMemory, Recording
from tonnage.render.compared import compared_page
from tonnage.scenario import Scenario
from tonnage.trace import PHASES, Module, Op, Trace

MiB = 2**20


def recording(*, extra: int = 0, measured: bool = False, known: bool = True, outside: int = 0) -> Recording:
    """30 MiB of weights and, in backward of 12 layers, 4 MiB and `extra` bytes each."""
    trace = Trace()
    if known:
        trace.modules += [Module(f"layer.{n}.attention", "Attention") for n in range(12)]
        trace.ops += [Op("aten.mm.default", n + 1, PHASES.index("backward"), (), ()) for n in range(12)]
    ledger = Ledger()
    ledger.mark("start")
    ledger.alloc(30 * MiB, category=Category.PARAMETER if known else Category.TEMPORARY)
    ledger.mark("step 1: forward done")
    for n in range(12):
        ledger.alloc(4 * MiB, op=n if known else -1)
        if extra:
            ledger.alloc(extra, op=n if known else -1)
    ledger.mark("step 1: backward done")
    made = Recording(ledger, trace, t4(measured=measured))
    if measured:
        allocated = (30 + 48) * MiB + 12 * extra
        made.card.append(CardMemory(PEAK, allocated, 140 * MiB))
        made.process.append(ProcessMemory(PEAK, 240 * MiB + outside))
    return made


def compared(predicted: Recording, measured: Recording, **options):
    return compare_sides(Side(predicted, "p.tonnage"), Side(measured, "m.tonnage"), **options)


def shown(found, **options) -> str:
    return compared_page(found, io.StringIO(), width=80, **options)


def test_what_only_the_card_has_is_named_on_the_first_screen():
    # GIVEN 12 x 2,359,296 B (27 MiB) that only the card has, and no operators in what it wrote
    page = shown(compared(recording(), recording(extra=2_359_296, measured=True, known=False)))
    first = "\n".join(page.splitlines()[:24])
    assert "NOT WITHIN 2 %" in first
    assert "-27.00 MiB  12 × 2,359,296 B only measured: after aten.mm.default in" in first
    assert "layer.*.attention, backward" in first


def test_the_causes_sum_to_the_difference_that_is_shown():
    found = compared(recording(), recording(extra=2_359_296, measured=True, outside=5 * MiB))
    page = shown(found)
    # 150 MiB: 30 and 3 segments of 20 MiB predicted (5 of 4 MiB in each), and 100 MiB of context; measured 245 MiB
    assert "what makes up -55.00 MiB of process, largest first" in page
    assert found.tier("process").figure.predicted == 190 * MiB
    assert "outside the allocator: CUDA context, libraries, other code" in page


def test_sizes_levels_and_split():
    lines = shown(compared(recording(), recording(extra=2_359_296, measured=True))).splitlines()
    assert [line.split() for line in lines if line.startswith("allocated")] == [
        ["allocated", "78.00", "MiB", "105.00", "MiB", "-27.00", "MiB", "-25.7%"],
        ["allocated", "-27.00", "MiB", "0"],
    ]


def test_what_is_not_known_is_said():
    page = shown(compared(recording(), recording(measured=True, known=False)))
    assert "by category: not known of what was measured" in page
    assert "by module: not known of what was measured" in page
    assert "m.tonnage does not say: categories, operators, modules" in page


def test_an_allocator_error_that_is_not_known_is_no_zero():
    measured = recording(measured=True)
    measured.card.clear()
    lines = shown(compared(recording(), measured)).splitlines()
    assert [line.split() for line in lines if line.startswith("reserved")][1] == ["reserved", "0", "not", "known"]
    assert "other code, and the allocator's own error" in " ".join(" ".join(lines).split())


def test_two_predictions_are_the_first_and_the_second():
    page = shown(compared(recording(extra=1024), recording()))
    assert "only in the first: aten.mm.default in" in page
    assert page.startswith("T4, torch 2.13.0\nfirst        p.tonnage\n")
    assert "verdict" not in page and "measured" not in page


def test_equal_predictions():
    page = shown(compared(recording(), recording()))
    assert "nothing differs at the peak" in page
    assert "3 of 3 common marks without a difference" in page


@pytest.mark.parametrize(("events", "more"), [(0, 2), (1, 1), (9, 0)])
def test_as_many_differences_as_asked_for(events, more):
    # GIVEN 27 MiB more, for which one segment of 20 MiB is enough: 7 MiB less are left unused
    page = shown(compared(recording(extra=2_359_296), recording()), events=events)
    assert (f"{more} more; --events N names N of them" in page) == bool(more)


def test_what_both_ran_is_said_once():
    one = Side(recording(), "p", "gpt2", Scenario(batch=8))
    other = Side(recording(), "q", "gpt2", Scenario(batch=8))
    page = shown(compare_sides(one, other))
    assert page.startswith("gpt2; inference, batch 8, fp32; T4, torch 2.13.0\nfirst        p\nsecond       q\n")
    assert page.count("gpt2") == 1


def test_names_cannot_color_the_page():
    side = Side(recording(), "a\x1b[31m[red]b")
    assert "a\\x1b[31m[red]b" in shown(compare_sides(side, side))


def test_the_width_is_kept():
    found = compared(recording(extra=1024), recording(extra=2_359_296, measured=True))
    assert max(map(len, shown(found).splitlines())) <= 80
