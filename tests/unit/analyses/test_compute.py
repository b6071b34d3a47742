"""A training step of a few operators, whose sums are written beside them."""

from __future__ import annotations

from typing import Any

import pytest

from tonnage.analyses.compute import Compute, account_compute
from tonnage.analyses.passes import last_step
from tonnage.trace import Call, Mark, Module, Op, TensorSpec, Trace

SETUP, FORWARD, BACKWARD, OPTIMIZER = range(4)
NET, BLOCK, LAYER, OTHER = 1, 2, 3, 4
MODULES = [
    Module("", ""),
    Module("", "Net"),
    Module("block", "Block"),
    Module("block.layer", "Linear"),
    Module("other", "Linear"),
]


def spec(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float32")


def mm(module: int = LAYER, phase: int = FORWARD, size: int = 2) -> Op:
    """size^3 MACs, in size^2 products."""
    return Op("aten.mm.default", module, phase, (spec(size, size),) * 2, (spec(size, size),), (None, None))


def relu(module: int = BLOCK, phase: int = FORWARD) -> Op:
    return Op("aten.relu.default", module, phase, (spec(4),), (spec(4),), (None,))


def unknown(module: int = BLOCK, phase: int = FORWARD) -> Op:
    return Op("mylib.scan.default", module, phase, (spec(4),), (spec(4),), (None,))


def step(number: int, ops: int, forward: int, backward: int) -> list[Mark]:
    marks = {"forward": forward, "backward": backward, "optimizer": ops}
    return [Mark(f"step {number}: {name} done", at) for name, at in marks.items()]


@pytest.fixture
def counted(recording: Any) -> Any:
    """The compute of a list of operators, calls and marks."""

    def count(ops: list[Op], calls: list[Call] | None = None, marks: list[Mark] | None = None) -> Compute:
        recording.trace = Trace(ops=ops, modules=MODULES, calls=calls or [], marks=marks or [])
        return account_compute(recording)

    return count


def test_nothing_ran(counted: Any) -> None:
    found = counted([])
    assert (found.macs, found.flops, found.step_macs, found.at_least) == (0, 0, 0, False)
    assert (found.by_module, found.by_operator, found.unsupported) == ([], [], [])


def test_two_conventions(counted: Any) -> None:
    """2 x 2 by 2 x 2: 8 MACs in 4 dot products of 2 * 2 - 1 operations; a bias of 4 and 4 for the activation."""
    bias = Op("aten.addmm.default", LAYER, FORWARD, (spec(2), spec(2, 2), spec(2, 2)), (spec(2, 2),), (None,) * 3)
    forward = counted([bias, relu()]).forward
    assert (forward.macs, forward.flops) == (8, 16)
    assert forward.other == {"elementwise": 4, "bias": 4}
    assert forward.textbook_flops == 4 * 3 + 4 + 4
    assert forward.bytes_moved == 4 * (2 + 4 + 4 + 4) + 4 * (4 + 4)


def test_inference_is_what_lies_between_its_marks(counted: Any) -> None:
    ops = [mm(phase=SETUP), mm(), mm(size=3)]
    assert counted(ops, marks=[Mark("inputs made", 1), Mark("forward done", 2)]).macs == 8
    assert counted(ops).macs == 8 + 8 + 27


def test_the_last_training_step_is_counted(counted: Any) -> None:
    first = [mm(), mm(phase=BACKWARD), relu(phase=OPTIMIZER)]
    second = [mm(size=3), mm(phase=BACKWARD, size=4), mm(phase=BACKWARD, size=4), relu(phase=OPTIMIZER)]
    marks = [Mark("inputs made", 0), *step(1, 3, 1, 2), *step(2, 7, 4, 6)]
    found = counted(first + second, marks=marks)
    assert (found.macs, found.backward.macs, found.optimizer.other) == (27, 2 * 64, {"elementwise": 4})
    assert found.step_macs == 27 + 128
    alone = counted(first, marks=[Mark("inputs made", 0), *step(1, 3, 1, 2)])
    assert alone.step_macs == 16


def test_modules_count_every_call_and_their_children(counted: Any) -> None:
    """Block calls its layer twice, Net calls block and other; what is outside of every module comes first."""
    ops = [
        mm(0),
        mm(),
        mm(),
        relu(BLOCK),
        mm(BLOCK, size=3),
        mm(OTHER, size=4),
        mm(LAYER, BACKWARD),
        mm(OTHER, BACKWARD),
    ]
    calls = [
        Call(LAYER, 1, 2, ()),
        Call(LAYER, 2, 3, ()),
        Call(BLOCK, 1, 5, ()),
        Call(OTHER, 5, 6, ()),
        Call(NET, 1, 6, ()),
    ]
    found = counted(ops, calls)
    rows = [(m.path, m.type, m.calls, m.own_macs, m.macs, m.backward_macs) for m in found.by_module]
    assert rows == [
        ("", "", 0, 8, 8, 0),
        ("", "Net", 1, 0, 8 + 8 + 27 + 64, 16),
        ("block", "Block", 1, 27, 8 + 8 + 27, 8),
        ("block.layer", "Linear", 2, 16, 16, 8),
        ("other", "Linear", 1, 64, 64, 8),
    ]
    assert [m.share for m in found.by_module] == [m.macs / found.macs for m in found.by_module]


def test_a_module_that_calls_itself_is_counted_once(counted: Any) -> None:
    calls = [Call(BLOCK, 1, 2, ()), Call(BLOCK, 0, 2, ())]
    assert counted([mm(BLOCK), mm(BLOCK)], calls).by_module[0].macs == 16


def test_calls_during_backward_are_recomputation(counted: Any) -> None:
    """Block runs again, with its layer; the operator after it is backward's own."""
    ops = [mm(), mm(BLOCK), mm(LAYER, BACKWARD), mm(BLOCK, BACKWARD), mm(LAYER, BACKWARD, 3)]
    calls = [Call(LAYER, 0, 1, ()), Call(BLOCK, 0, 2, ()), Call(LAYER, 2, 3, ()), Call(BLOCK, 2, 4, ())]
    found = counted(ops, calls)
    assert (found.macs, found.recomputation.macs, found.backward.macs) == (16, 16, 27)
    assert {m.path: (m.calls, m.macs, m.backward_macs) for m in found.by_module} == {
        "block": (1, 16, 27),
        "block.layer": (1, 8, 27),
    }


def test_scores_that_attention_computes_again_are_recomputation(counted: Any) -> None:
    heads = spec(1, 1, 4, 2)
    name = "aten._scaled_dot_product_efficient_attention_backward.default"
    found = counted([Op(name, BLOCK, BACKWARD, (heads,) * 4, (heads,) * 3, (None,) * 4)])
    assert (found.backward.macs, found.recomputation.macs) == (4 * 4 * 4 * 2, 4 * 4 * 2)
    assert found.recomputation.textbook_flops == 2 * 32 - 16


def test_by_operator_the_most_work_first(counted: Any) -> None:
    found = counted([relu(), mm(), mm(), mm(phase=BACKWARD, size=3)])
    assert [(o.operator, o.kind, o.during, o.times, o.macs) for o in found.by_operator] == [
        ("aten.mm.default", "matrix product", "backward", 1, 27),
        ("aten.mm.default", "matrix product", "forward", 2, 16),
        ("aten.relu.default", "elementwise", "forward", 1, 0),
    ]


def test_what_has_no_rule_is_listed_and_says_at_least(counted: Any) -> None:
    found = counted([unknown(), mm(), unknown(), unknown(OTHER), unknown(OTHER, BACKWARD)])
    assert [(u.operator, u.module, u.during, u.times) for u in found.unsupported] == [
        ("mylib.scan.default", "block", "forward", 2),
        ("mylib.scan.default", "other", "forward", 1),
        ("mylib.scan.default", "other", "backward", 1),
    ]
    assert all("mylib" in u.reason for u in found.unsupported)
    assert (found.macs, found.at_least) == (8, True)
    assert (found.forward.at_least, found.backward.at_least, found.optimizer.at_least) == (True, True, False)


def test_a_recording_that_was_saved_counts_the_same(counted: Any, recording: Any) -> None:
    pool = Op("aten.avg_pool2d.default", BLOCK, FORWARD, (spec(1, 1, 4, 4),), (spec(1, 1, 2, 2),), (None, (2, 2)))
    before = counted([pool, mm()], [Call(BLOCK, 0, 1, ())])
    assert account_compute(type(recording).from_bytes(recording.to_bytes())) == before


def test_a_step_knows_where_it_begins(recording: Any) -> None:
    recording.trace = Trace(ops=[mm(), mm(), mm()], modules=MODULES, marks=[Mark("inputs made", 1)])
    found = last_step(recording.trace)
    assert (found.begin, found.end, found.passes) == (1, 3, ["forward", "forward"])
