"""Each kind of error alone, its bytes by hand.

Requests come in blocks of 512 B, up to 1 MiB from segments of 2 MiB, under 10 MiB from segments of 20 MiB, from there
in segments of their own, multiples of 2 MiB (c10/core/AllocatorConfig.h).
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.comparison import TOLERANCE, Side, bytes_of, compare_sides
from tonnage.errors import BadFile, BadOption
from tonnage.ledger import Category, Ledger
from tonnage.recording import PEAK, CardMemory, ProcessMemory, Recording
from tonnage.scenario import Scenario
from tonnage.trace import Parameter, Trace

MiB = 2**20
CATEGORIES = [Category.TEMPORARY, Category.PARAMETER, Category.ACTIVATION]
"""Inputs that differ would be another scenario."""


def weights_and_a_product(script):
    """30 MiB of weights in their own segment, and a product of 4 MiB in one of 20 MiB."""
    script.mark("start").new(30 * MiB, "weights", Category.PARAMETER).mark("model loaded")
    return script.op("aten.mm.default", "layer.0").new(4 * MiB, "product", Category.OUTPUT).mark("forward done")


def card_said(script, *figures):
    """The card's allocator and NVML at each mark and at the peak: (allocated, reserved, process) in MiB."""
    marks = script.recording.ledger.marks
    for mark, (allocated, reserved, process) in zip([*marks, PEAK], [*figures, figures[-1]], strict=True):
        script.recording.card.append(CardMemory(mark, allocated * MiB, reserved * MiB))
        script.recording.process.append(ProcessMemory(mark, process * MiB))


def errors(comparison, name):
    tier = comparison.tier(name)
    return tier.figure.difference, tier.event_error, tier.allocator_error, tier.outside_error


def test_equal_runs_differ_in_nothing(predicted, measured):
    weights_and_a_product(predicted)
    card_said(weights_and_a_product(measured), (0, 0, 100), (30, 30, 130), (34, 50, 150))
    found = compare_sides(predicted.side(), measured.side())
    assert [errors(found, name) for name in ("allocated", "reserved", "process")] == [
        (0, 0, 0, None),
        (0, 0, 0, None),
        (0, 0, 0, 0),
    ]
    assert found.residuals == [] and found.elsewhere is None
    assert found.verdict.within
    assert {tier.measured_known for tier in found.peak} == {"exact", "measured"}


def test_an_error_of_the_allocator_alone(predicted, measured):
    # GIVEN the same events, of which the card made one segment of 20 MiB more than the simulation
    weights_and_a_product(predicted)
    card_said(weights_and_a_product(measured), (0, 0, 100), (30, 30, 130), (34, 70, 170))
    found = compare_sides(predicted.side(), measured.side())
    assert errors(found, "allocated") == (0, 0, 0, None)
    assert errors(found, "reserved") == (-20 * MiB, 0, -20 * MiB, None)
    assert errors(found, "process") == (-20 * MiB, 0, -20 * MiB, 0)
    assert found.residuals == []
    assert not found.verdict.within
    assert found.verdict.worst == "reserved" and found.verdict.worst_share == pytest.approx(20 / 70)


def test_an_error_of_the_events_alone(predicted, measured):
    # GIVEN a card that takes 20 MiB more while the product runs: a segment of its own, as 16 MiB are left
    weights_and_a_product(predicted)
    measured.mark("start").new(30 * MiB, category=Category.PARAMETER).mark("model loaded")
    measured.op("aten.mm.default", "layer.0").new(4 * MiB).scratch(20 * MiB).mark("forward done")
    card_said(measured, (0, 0, 100), (30, 30, 130), (34, 70, 170))
    measured.recording.card[-1] = CardMemory(PEAK, 54 * MiB, 70 * MiB)
    found = compare_sides(predicted.side(), measured.side())
    assert errors(found, "requested") == (-20 * MiB, -20 * MiB, None, None)
    assert errors(found, "allocated") == (-20 * MiB, -20 * MiB, 0, None)
    assert errors(found, "reserved") == (-20 * MiB, -20 * MiB, 0, None)
    assert errors(found, "process") == (-20 * MiB, -20 * MiB, 0, 0)
    (residual,) = found.residuals
    assert (residual.kind, residual.times, residual.measured_size) == ("only measured", 1, 20 * MiB)
    assert (residual.operator, residual.module, residual.phase) == ("aten.mm.default", "layer.*", "forward")
    assert (residual.at_peak, residual.over_run, residual.since) == (-20 * MiB, -20 * MiB, "model loaded")


def test_an_error_outside_of_the_allocator_alone(predicted, measured):
    # GIVEN 100 MiB of context predicted, and libraries that take 60 MiB more
    weights_and_a_product(predicted)
    card_said(weights_and_a_product(measured), (0, 0, 100), (30, 30, 190), (34, 50, 210))
    found = compare_sides(predicted.side(), measured.side())
    assert errors(found, "reserved") == (0, 0, 0, None)
    assert errors(found, "process") == (-60 * MiB, 0, 0, -60 * MiB)
    assert found.tier("process").figure.predicted == 150 * MiB


def test_every_mark_has_the_levels(predicted, measured):
    weights_and_a_product(predicted)
    card_said(weights_and_a_product(measured), (0, 0, 100), (30, 32, 130), (34, 50, 150))
    found = compare_sides(predicted.side(), measured.side())
    assert [moment.name for moment in found.moments] == ["start", "model loaded", "forward done"]
    loaded = {tier.name: tier for tier in found.moments[1].tiers}
    assert loaded["reserved"].figure.difference == loaded["reserved"].allocator_error == -2 * MiB
    assert loaded["allocated"].figure.ratio == 1.0


def test_without_figures_of_the_card_its_events_stand_in(predicted, measured):
    weights_and_a_product(predicted)
    weights_and_a_product(measured)
    measured.recording.process.append(ProcessMemory("forward done", 190 * MiB))
    found = compare_sides(predicted.side(), measured.side())
    reserved = found.tier("reserved")
    assert (reserved.measured_known, reserved.allocator_error) == ("modelled", None)
    assert errors(found, "process") == (-40 * MiB, 0, None, -40 * MiB)
    assert any("stand in" in note for note in found.notes)


def test_nobody_looked_at_the_process(predicted, measured):
    weights_and_a_product(predicted)
    weights_and_a_product(measured)
    process = compare_sides(predicted.side(), measured.side()).tier("process")
    assert (process.figure.measured, process.figure.difference, process.measured_known) == (None, None, None)


def test_on_a_cpu_only_what_was_requested_counts(predicted, measured, environment):
    predicted.recording.environment = environment(device="cpu", device_type="cpu")
    measured.recording.environment = environment(device="cpu", device_type="cpu", measured=True)
    weights_and_a_product(predicted)
    weights_and_a_product(measured).recording.process.append(ProcessMemory("forward done", 500 * MiB))
    found = compare_sides(predicted.side(), measured.side())
    assert [tier.name for tier in found.peak] == ["requested", "process"]
    assert found.tier("requested").figure.predicted == 34 * MiB
    assert "rounding" not in {part.name for part in found.by_category}


def test_the_process_of_a_card_and_that_of_a_cpu_are_not_compared(predicted, measured, environment):
    measured.recording.environment = environment(device_type="cpu", measured=True)
    weights_and_a_product(predicted)
    weights_and_a_product(measured).recording.process.append(ProcessMemory("forward done", 500 * MiB))
    assert [tier.name for tier in compare_sides(predicted.side(), measured.side()).peak] == ["requested"]


def test_settings_that_differ_are_an_error_of_the_allocator(predicted, measured, environment):
    # GIVEN 15 MiB mapped in pages of 20 MiB (expandable segments) where a segment of 16 MiB was predicted
    measured.recording.environment = environment(measured=True, alloc_conf="expandable_segments:True")
    predicted.mark("start").new(15 * MiB)
    measured.mark("start").new(15 * MiB)
    found = compare_sides(predicted.side(), measured.side())
    assert errors(found, "reserved")[:3] == (-4 * MiB, 0, -4 * MiB)
    assert any("allocator settings" in line for line in found.differ)


class TestParts:
    def test_what_is_alive_at_the_peak_and_what_was_allocated(self, predicted, measured):
        weights_and_a_product(predicted)
        weights_and_a_product(measured).scratch(100)
        parts = {part.name: part for part in compare_sides(predicted.side(), measured.side()).by_category}
        assert parts["parameter"].at_peak.predicted == parts["parameter"].at_peak.measured == 30 * MiB
        # the scratch of 100 B ends the measured run: 100 B asked, 412 B of its block are rounding
        assert (parts["temporary"].at_peak.difference, parts["temporary"].over_run.difference) == (-100, -100)
        assert (parts["rounding"].at_peak.difference, parts["rounding"].over_run.difference) == (-412, -412)

    def test_by_module_and_phase(self, predicted, measured):
        for script, extra in ((predicted, 0), (measured, 1)):
            script.mark("start")
            for layer in range(3):
                script.op("aten.mm.default", f"layer.{layer}.attention").new(512 + 512 * extra)
            script.op("aten.mm.default", "head", "backward").new(2048)
        found = compare_sides(predicted.side(), measured.side())
        modules = {part.name: part.at_peak for part in found.by_module}
        assert modules["layer.*.attention"].predicted == 3 * 512
        assert modules["layer.*.attention"].measured == 3 * 1024
        assert {part.name: part.at_peak.difference for part in found.by_phase} == {"forward": -1536, "backward": 0}

    def test_what_is_not_known_is_not_zero(self, predicted, measured):
        weights_and_a_product(predicted)
        measured.mark("start").new(30 * MiB).mark("model loaded").new(4 * MiB).mark("forward done")
        found = compare_sides(predicted.side("p"), measured.side("m"))
        for parts in (found.by_category, found.by_module):
            assert parts
            assert {part.at_peak.measured for part in parts} == {part.over_run.measured for part in parts} == {None}
        assert "m does not say: categories, operators, modules" in found.notes

    def test_phases_follow_from_marks_where_no_operator_is_known(self, predicted, measured):
        for script in (predicted, measured):
            script.mark("start").new(1024).mark("model loaded").new(2048).mark("step 1: forward done")
            script.new(4096).mark("step 1: backward done").new(512)
        phases = {
            part.name: part.over_run.measured for part in compare_sides(predicted.side(), measured.side()).by_phase
        }
        assert phases == {"setup": 1024, "forward": 2048, "backward": 4096, "": 512}


class TestResiduals:
    def test_the_largest_at_the_peak_is_first(self, predicted, measured):
        weights_and_a_product(predicted)
        weights_and_a_product(measured)
        for size in (512, 8192, 1024):
            measured.op(f"aten.made_{size}.default").new(size)
        found = compare_sides(predicted.side(), measured.side())
        assert [residual.measured_size for residual in found.residuals] == [8192, 1024, 512]

    def test_layers_are_told_together(self, predicted, measured):
        for layer in range(12):
            for script in (predicted, measured):
                script.op("aten.mm.default", f"layer.{layer}.attention", "backward").new(4096)
            measured.new(2_359_296)
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.times, residual.module, residual.at_peak) == (12, "layer.*.attention", -12 * 2_359_296)

    def test_without_operators_the_allocation_before_names_the_place(self, predicted, measured):
        predicted.op("aten.mm.default", "layer.0", "backward").new(4096)
        measured.new(4096).new(999)
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert residual.after
        assert (residual.operator, residual.module, residual.phase) == ("aten.mm.default", "layer.*", "backward")

    def test_lines_of_python_are_told_beside_the_allocation_before(self, predicted, measured):
        predicted.op("aten.mm.default", "layer.0").new(4096)
        predicted.op("aten.add.Tensor", "layer.0").new(2048)
        measured.op("train.py:12:forward").new(4096)
        measured.op("train.py:13:forward").new(999)
        measured.op("train.py:14:forward").new(2048)
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.line, residual.operator, residual.after) == ("train.py:13:forward", "aten.mm.default", True)

    def test_with_nothing_before_it_only_the_mark_is_known(self, predicted, measured):
        predicted.mark("start")
        measured.mark("start").new(999)
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.operator, residual.after, residual.since) == ("", False, "start")

    def test_another_size(self, predicted, measured):
        for script, size in ((predicted, 2048), (measured, 4096)):
            script.op("aten.mm.default").new(1024)
            script.op("aten.sum.default").new(size)
            script.op("aten.mm.default").new(1024)
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.kind, residual.predicted_size, residual.measured_size) == ("another size", 2048, 4096)
        assert (residual.operator, residual.at_peak, residual.over_run) == ("aten.sum.default", -2048, -2048)

    def test_what_lasts_is_the_same_whoever_made_it(self, predicted, measured):
        # GIVEN a gradient of 4,096 B: of a product, or cast from a product of 2,048 B
        predicted.op("aten.mm.default", "head").new(4096, category=Category.GRADIENT)
        measured.op("aten.mm.default", "head").new(2048, "half")
        measured.op("aten._to_copy.default", "head").new(4096, category=Category.GRADIENT).free("half")
        found = compare_sides(predicted.side(), measured.side())
        assert [(r.kind, r.operator, r.over_run) for r in found.residuals] == [
            ("only measured", "aten.mm.default", -2048)
        ]

    def test_of_several_by_the_same_operator_the_first_is_of_another_size(self, predicted, measured):
        predicted.op("aten.mm.default", "head").new(4096)
        measured.op("aten.mm.default", "head").new(2048).new(1024)
        found = compare_sides(predicted.side(), measured.side())
        assert {(r.kind, r.predicted_size, r.measured_size) for r in found.residuals} == {
            ("another size", 4096, 2048),
            ("only measured", None, 1024),
        }

    def test_another_order_is_no_residual(self, predicted, measured):
        predicted.new(512).new(1024)
        measured.new(1024).new(512)
        found = compare_sides(predicted.side(), measured.side())
        assert found.residuals == []
        assert (found.events.equal, found.events.in_another_order) == (1, 1)

    def test_operators_tell_equal_sizes_apart(self, predicted, measured):
        for script in (predicted, measured):
            script.op("aten.mm.default").new(512)
            if script is predicted:
                script.op("aten.clone.default").new(512)
            script.op("aten.addmm.default").new(512)
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.kind, residual.operator) == ("only predicted", "aten.clone.default")

    def test_what_lives_longer_on_the_card(self, predicted, measured):
        predicted.mark("start").new(4 * MiB, "a").free("a").new(6 * MiB).mark("forward done")
        measured.mark("start").new(4 * MiB, "a").new(6 * MiB).free("a").mark("forward done")
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.kind, residual.at_peak, residual.over_run) == ("alive longer when measured", -4 * MiB, 0)

    def test_weights_that_were_there_before_the_start_are_the_same(self, predicted, measured):
        weights = (30 * MiB, "weights", Category.PARAMETER)
        predicted.mark("start").new(*weights).mark("model loaded").new(512)
        measured.new(*weights).mark("start").mark("model loaded").new(512)
        found = compare_sides(predicted.side(), measured.side())
        assert found.residuals == []
        assert (found.events.equal, found.events.in_another_order) == (1, 1)

    def test_what_is_freed_between_other_marks(self, predicted, measured):
        predicted.mark("start").new(512, "a").free("a").mark("forward done").mark("end")
        measured.mark("start").new(512, "a").mark("forward done").free("a").mark("end")
        (residual,) = compare_sides(predicted.side(), measured.side()).residuals
        assert (residual.kind, residual.at_peak) == ("freed elsewhere", 0)

    def test_what_is_freed_after_the_last_mark_is_no_difference(self, predicted, measured):
        predicted.mark("start").new(512, "a").mark("end").free("a")
        measured.mark("start").new(512, "a").mark("end")
        assert compare_sides(predicted.side(), measured.side()).residuals == []

    def test_peaks_of_different_steps_are_compared_in_the_same(self, predicted, measured):
        # GIVEN two steps of 8 MiB; the card takes 2 MiB more in the second, the prediction 1 MiB in the first
        for script, extra in ((predicted, (1, None)), (measured, (None, 2))):
            script.mark("start")
            for more in extra:
                script.new(8 * MiB, "step")
                if more:
                    script.scratch(more * MiB)
                script.free("step").mark("step done")
        found = compare_sides(predicted.side(), measured.side())
        assert errors(found, "requested")[0] == -1 * MiB
        assert [(r.kind, r.at_peak) for r in found.residuals] == [("only measured", -2 * MiB), ("only predicted", 0)]
        assert (found.elsewhere.side, found.elsewhere.difference) == ("predicted", 1 * MiB)


class TestScenarios:
    def of(self, script, name, **facts):
        return script.mark("start").new(512).side(name, **facts)

    def test_another_batch(self, predicted, measured):
        ours = self.of(predicted, "p", scenario=Scenario(batch=8, mode="training"))
        theirs = self.of(measured, "m", scenario=Scenario(batch=16))
        with pytest.raises(BadOption, match="mode: training and inference; batch: 8 and 16") as caught:
            compare_sides(ours, theirs)
        assert "p and m are of different scenarios" in str(caught.value) and "hint:" in str(caught.value)

    def test_two_predictions_may_differ(self, predicted):
        ours = self.of(predicted, "p", scenario=Scenario(batch=8))
        theirs = Side(predicted.recording, "q", scenario=Scenario(batch=16))
        found = compare_sides(ours, theirs)
        assert found.differ == ["batch: 8 and 16"] and found.verdict is None

    def test_an_optimizer_of_inference_is_no_difference(self, predicted, measured):
        ours = self.of(predicted, "p", scenario=Scenario(optimizer="sgd"))
        assert compare_sides(ours, self.of(measured, "m", scenario=Scenario())).differ == []

    def test_another_model(self, predicted, measured):
        for script, width in ((predicted, 3), (measured, 4)):
            script.recording.trace.parameters.append(
                Parameter("w", (2, width), "float32", 8 * width, True, 1, "parameter")
            )
        with pytest.raises(BadOption, match="different models: 6 and 8 parameters"):
            compare_sides(self.of(predicted, "p"), self.of(measured, "m"))

    def test_marks_tell_the_mode_of_bare_recordings(self, predicted, measured):
        predicted.mark("start", "forward done")
        measured.mark("start", "step 1: backward done")
        with pytest.raises(BadOption, match="mode: inference and training"):
            compare_sides(predicted.side("p"), measured.side("m"))

    def test_inputs_tell_the_batch_of_bare_recordings(self, predicted, measured):
        predicted.mark("start").new(1024, category=Category.INPUT)
        measured.mark("start").new(4096, category=Category.INPUT)
        with pytest.raises(BadOption, match="inputs: 1,024 B and 4,096 B"):
            compare_sides(predicted.side("p"), measured.side("m"))

    def test_the_sides_change_places(self, predicted, measured):
        with pytest.raises(BadOption, match="m was measured and p predicted"):
            compare_sides(self.of(measured, "m"), self.of(predicted, "p"))

    def test_an_allocator_that_is_not_simulated(self, predicted, measured, environment):
        measured.recording.environment = environment(measured=True, alloc_conf="backend:cudaMallocAsync")
        with pytest.raises(BadOption, match="m: allocator settings: backend:cudaMallocAsync is not modelled"):
            compare_sides(self.of(predicted, "p"), self.of(measured, "m"))

    def test_nothing_happened(self, predicted, measured):
        with pytest.raises(BadFile, match="p has no events"):
            compare_sides(predicted.side("p"), measured.side("m"))


class TestVerdict:
    def found(self, predicted, measured, **options):
        predicted.new(100 * MiB)
        measured.new(98 * MiB)  # 2.04 % less
        return compare_sides(predicted.side(), measured.side(), **options).verdict

    def test_the_default(self, predicted, measured):
        verdict = self.found(predicted, measured)
        assert (verdict.within, verdict.tolerance) == (False, TOLERANCE)
        assert verdict.worst_share == pytest.approx(2 / 98)

    def test_another(self, predicted, measured):
        assert self.found(predicted, measured, tolerance=0.03).within


@st.composite
def runs(draw):
    """A run of up to 30 events with marks, each allocation freed at random."""
    ledger, alive = Ledger(), []
    ledger.mark("start")
    for what in draw(st.lists(st.sampled_from(["new", "new", "new", "free", "mark"]), max_size=30)):
        if what == "new":
            size = draw(st.sampled_from([1, 512, 1000, 3 * MiB, 11 * MiB]))
            alive.append(ledger.alloc(size, category=draw(st.sampled_from(CATEGORIES))))
        elif what == "free" and alive:
            ledger.free(alive.pop(draw(st.integers(0, len(alive) - 1))))
        elif what == "mark":
            ledger.mark(draw(st.sampled_from(["a", "b"])))
    return ledger


def side_of(ledger, environment, card=None):
    recording = Recording(ledger, Trace(), environment)
    if card is not None:
        recording.card += [CardMemory(name, card, card) for name in [*ledger.marks, PEAK]]
        recording.process += [ProcessMemory(name, 2 * card) for name in ledger.marks]
    return Side(recording, "side")


@given(runs(), runs(), st.none() | st.integers(0, 50 * MiB))
def test_errors_sum_to_the_difference(environment, ours, theirs, card):
    found = compare_sides(side_of(ours, environment()), side_of(theirs, environment(measured=True), card))
    for tier in [*found.peak, *(tier for moment in found.moments for tier in moment.tiers)]:
        parts = (tier.event_error, tier.allocator_error, tier.outside_error)
        if tier.figure.difference is not None:
            assert sum(part for part in parts if part is not None) == tier.figure.difference
        else:
            assert set(parts) == {None}


@given(runs(), runs())
def test_residuals_sum_to_the_difference(environment, ours, theirs):
    found = compare_sides(side_of(ours, environment()), side_of(theirs, environment(measured=True)))
    elsewhere = found.elsewhere.difference if found.elsewhere else 0
    assert sum(r.at_peak for r in found.residuals) + elsewhere == found.tier("requested").figure.difference
    assert sum(r.over_run for r in found.residuals) == sum(ours.sizes) - sum(theirs.sizes)


@given(runs(), runs(), st.none() | st.integers(0, 50 * MiB))
def test_causes_sum_to_the_difference_of_the_highest_level(environment, ours, theirs, card):
    found = compare_sides(side_of(ours, environment()), side_of(theirs, environment(measured=True), card))
    assert found.highest.name == ("reserved" if card is None else "process")
    sizes = [bytes_of(cause) for cause in found.causes()]
    assert sum(sizes) == found.highest.figure.difference
    assert sizes == sorted(sizes, key=abs, reverse=True) and 0 not in sizes


@given(runs(), runs())
def test_every_allocation_is_told_once(environment, ours, theirs):
    events = compare_sides(side_of(ours, environment()), side_of(theirs, environment(measured=True))).events
    both = events.equal + events.in_another_order + events.of_another_size
    assert both + events.only_predicted == events.predicted == len(ours.sizes)
    assert both + events.only_measured == events.measured == len(theirs.sizes)


@given(runs(), runs())
def test_categories_sum_to_what_is_allocated(environment, ours, theirs):
    found = compare_sides(side_of(ours, environment()), side_of(theirs, environment()))
    for name in ("predicted", "measured"):
        sizes = [getattr(part.at_peak, name) for part in found.by_category]
        if None not in sizes and sizes:
            assert sum(sizes) == getattr(found.tier("allocated").figure, name)


@given(runs())
def test_a_run_is_like_itself(environment, ledger):
    found = compare_sides(side_of(ledger, environment()), side_of(ledger, environment(measured=True)))
    assert {tier.figure.difference for tier in found.peak if tier.name != "process"} == {0}
    assert found.residuals == [] and found.elsewhere is None
    assert found.events.equal == len(ledger.sizes)


def test_a_hundred_thousand_events_in_seconds(environment):
    # GIVEN 100,000 allocations, of which the card makes one in fifty on top and one in a hundred in another size
    ours, theirs = Ledger(), Ledger()
    extra = 0
    for number in range(100_000):
        size = 512 * (1 + number * 97 % 299)  # none like its neighbours
        ours.free(ours.alloc(size))
        theirs.free(theirs.alloc(size + 7 if number % 100 == 0 else size))
        if number % 50 == 25:
            theirs.free(theirs.alloc(99))
            extra += 1
    begun = time.perf_counter()
    events = compare_sides(side_of(ours, environment()), side_of(theirs, environment(measured=True))).events
    assert time.perf_counter() - begun < 60
    assert (events.only_measured, events.of_another_size, events.only_predicted) == (extra, 1000, 0)
