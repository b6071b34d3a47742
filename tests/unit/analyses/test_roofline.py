"""Bounds by hand on a card of round numbers: 10^12 FLOP/s in fp32, 8 * 10^12 in TF32, 10^11 bytes/s.

So the ridges are at 10 and 80 FLOP per byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

import tonnage
from tonnage.analyses.compute import account_compute
from tonnage.analyses.roofline import Peak, account_roofline, find_useful_batch, peak_of
from tonnage.gpus import Card, find_card
from tonnage.ledger import Ledger
from tonnage.recording import Environment, Recording
from tonnage.trace import PHASES, Module, Op, TensorSpec, Trace

FORWARD, BACKWARD = PHASES.index("forward"), PHASES.index("backward")


@pytest.fixture
def card() -> Card:
    peaks = {"fp32": 1e12, "tf32": 8e12, "bf16": 16e12, "fp16": 16e12}
    return replace(find_card("A100-SXM4-80GB"), name="round", bandwidth=10**11, peak_flops=peaks)


def tensor(*shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(shape, dtype)


def product(rows: int, inner: int, columns: int, module: int = 1, phase: int = FORWARD, dtype: str = "float32") -> Op:
    sizes = ((rows, inner), (inner, columns), (rows, columns))
    left, right, result = (tensor(*size, dtype=dtype) for size in sizes)
    return Op("aten.mm.default", module, phase, (left, right), (result,), (None, None))


def relu(elements: int, module: int = 2, phase: int = FORWARD) -> Op:
    x = tensor(elements)
    return Op("aten.relu.default", module, phase, (x,), (x,), (None,))


def recorded(ops: Sequence[Op], paths: Sequence[str] = ("fc", "act")) -> Recording:
    modules = [Module("", ""), *(Module(path, "Linear" if "fc" in path else "ReLU") for path in paths)]
    environment = Environment(
        device="round",
        compute_capability=(8, 0),
        sm_count=1,
        total_memory=1,
        context_bytes=0,
        context_bytes_low=0,
        context_bytes_high=0,
        torch_rules="2.13.0",
        torch_running="2.13.0",
        python="3",
    )
    return Recording(Ledger(), Trace(ops=list(ops), modules=modules), environment)


def test_each_operator_takes_the_longer_of_its_two_times(card: Card) -> None:
    # 1000 x 1000 x 1000: 2e9 FLOP, 12e6 B: 2 ms of arithmetic, 0.12 ms of memory.
    # relu of 1e6: 1e6 FLOP, 8e6 B: 1 us of arithmetic, 80 us of memory.
    found = account_roofline(recorded([product(1000, 1000, 1000), relu(10**6)]), card)
    assert found.step == found.forward
    assert (found.forward.flops, found.forward.bytes_moved) == (2 * 10**9 + 10**6, 20 * 10**6)
    assert found.forward.seconds == pytest.approx(2e-3 + 80e-6)
    assert found.forward.compute_seconds == pytest.approx(2e-3 + 1e-6)
    assert found.forward.memory_seconds == pytest.approx(200e-6)
    assert found.forward.product_seconds == pytest.approx(2e-3)
    linear, activation = found.layers
    assert (linear.path, linear.forward.limit, activation.path, activation.forward.limit) == (
        "fc",
        "compute",
        "act",
        "memory",
    )
    assert linear.forward.intensity == pytest.approx(2e9 / 12e6)
    assert activation.forward.intensity == 1 / 8


def test_the_limit_changes_at_the_ridge(card: Card) -> None:
    # n x n x n moves 12 n^2 bytes for 2 n^3 FLOP: the intensity n / 6 passes 10 at n = 60.
    limits = [account_roofline(recorded([product(n, n, n)]), card).layers[0].forward.limit for n in (59, 61)]
    assert limits == ["memory", "compute"]


def test_forward_backward_and_step_are_told_apart(card: Card) -> None:
    ops = [product(100, 100, 100), product(100, 100, 100, phase=BACKWARD), product(100, 100, 100, phase=BACKWARD)]
    found = account_roofline(recorded(ops), card)
    assert {name: bound.flops for name, bound in found.passes.items()} == {"forward": 2 * 10**6, "backward": 4 * 10**6}
    assert (found.forward.flops, found.step.flops) == (2 * 10**6, 6 * 10**6)
    assert found.step.seconds == pytest.approx(3 * found.forward.seconds)
    (layer,) = found.layers
    assert (layer.forward.flops, layer.step.flops) == (2 * 10**6, 6 * 10**6)


def test_layers_that_repeat_are_one_and_others_are_not(card: Card) -> None:
    paths = ["h.0.fc", "h.1.fc", "h.2.fc", "h.3.fc"]
    ops = [product(10, 10, 10, module=1), product(10, 10, 10, module=2), product(10, 10, 20, module=3)]
    found = account_roofline(recorded([*ops, product(10, 10, 10, module=4)], paths), card)
    assert {(layer.path, layer.modules, layer.forward.flops) for layer in found.layers} == {
        ("h.{0,1,3}.fc", 3, 6000),
        ("h.2.fc", 1, 4000),
    }
    assert sum(layer.step.seconds for layer in found.layers) == pytest.approx(found.step.seconds)


A100, T4, P100 = find_card("A100"), find_card("T4"), find_card("P100")


@pytest.mark.parametrize(
    ("work", "dtype", "on", "precision", "share"),
    [
        ("matrix product", "float32", A100, "fp32", 1),
        ("convolution", "float32", A100, "tf32", 1),
        ("recurrent", "float32", A100, "tf32", 1),
        ("attention", "float32", A100, "tf32", 1 / 3),
        ("attention", "float32", find_card("RTX 4090"), "tf32", 1 / 3),
        ("matrix product", "bfloat16", A100, "bf16", 1),
        ("attention", "float16", A100, "fp16", 1),
        ("other arithmetic", "bfloat16", A100, "fp32", 1),
        ("convolution", "float32", T4, "fp32", 1),
        ("attention", "float32", T4, "fp32", 1),
        ("convolution", "float16", T4, "fp16", 1),
    ],
)
def test_which_peak_applies(work: str, dtype: str, on: Card, precision: str, share: float) -> None:
    found = peak_of(work, dtype, on)
    assert found.precision == precision
    assert found.flops_per_second == pytest.approx(on.peak_flops[precision] * share)
    assert on.bandwidth is not None
    assert found.ridge == pytest.approx(on.peak_flops[precision] * share / on.bandwidth)


@pytest.mark.parametrize(
    ("work", "dtype", "on"),
    [
        ("matrix product", "bfloat16", T4),
        ("matrix product", "float64", A100),
        ("other arithmetic", "float64", A100),
        ("matrix product", "int8", A100),
        ("matrix product", "float32", replace(A100, peak_flops={})),
    ],
)
def test_a_peak_that_nobody_knows(work: str, dtype: str, on: Card) -> None:
    found = peak_of(work, dtype, on)
    assert isinstance(found, Peak) and found.flops_per_second is None and found.ridge is None and found.reason


def test_what_torch_itself_says_of_tf32() -> None:
    torch = pytest.importorskip("torch")
    assert torch.backends.cudnn.allow_tf32 is True
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_an_unknown_peak_is_said_and_leaves_a_bound_of_memory() -> None:
    found = account_roofline(recorded([product(1000, 1000, 1000, dtype="bfloat16")]), T4)
    assert found.forward.seconds == pytest.approx(6e6 / 320e9)
    assert [layer.step.limit for layer in found.layers] == ["unknown"]
    assert [(missing.what, missing.reason) for missing in found.missing] == [
        (
            "the time of matrix products in bfloat16",
            "no bf16 units before compute capability 8.0: it is emulated",
        )
    ]


def test_an_unknown_bandwidth_is_said(card: Card) -> None:
    found = account_roofline(recorded([product(10, 10, 10)]), replace(card, bandwidth=None))
    assert found.forward.seconds == pytest.approx(2000 / 1e12)
    assert [missing.what for missing in found.missing] == ["the time of memory"]
    assert found.peaks[0].ridge is None
    assert found.step.limit == "unknown"


def test_an_operator_without_a_cost_is_said(card: Card) -> None:
    ops = [Op("mylib.scan.default", 1, FORWARD, (tensor(4),), (tensor(4),))] * 3
    found = account_roofline(recorded(ops), card)
    assert [(missing.times, "mylib" in missing.reason) for missing in found.missing] == [(3, True)]
    assert found.layers == []


def test_nothing_ran(card: Card) -> None:
    found = account_roofline(recorded([]), card)
    assert (found.step.seconds, found.step.intensity, found.layers, found.missing) == (0.0, None, [], [])


def test_the_work_is_that_of_compute() -> None:
    recording = tonnage.weigh("bert-base-uncased", mode="training", seq=16).recording
    compute = account_compute(recording)
    found = account_roofline(recording, A100)
    others = sum(sum(work.other.values()) for work in (compute.forward, compute.backward, compute.optimizer))
    assert found.step.flops == 2 * compute.step_macs + others
    assert found.forward.bytes_moved == compute.forward.bytes_moved


# -- batches ------------------------------------------------------------------------------------------------------


def linear_at(batch: int) -> Recording:
    return recorded([product(batch, 1000, 1000)])


def test_the_useful_batch_of_one_layer(card: Card) -> None:
    """Compute-bound: 2e6 FLOP each, 2 us. Memory: 4e6 B fixed and 8e3 B each, 40 us + 80 ns.

    A sample takes 40/B + 0.08 us until arithmetic takes over at 2 us: at B = 40/1.92 = 20.8. Within 1 % of 2 us:
    40/B + 0.08 <= 2.02 at B = 40/1.94 = 20.6.
    """
    found = find_useful_batch({batch: linear_at(batch) for batch in (2, 3, 5)}, card)
    assert found.batch == 21
    assert found.least_seconds_per_sample == pytest.approx(2e-6)
    assert found.seconds_per_sample_alone == pytest.approx(40.08e-6)
    assert found.seconds_per_sample == pytest.approx(2e-6)
    assert find_useful_batch({batch: linear_at(batch) for batch in (100, 200)}, card).batch == 21


def test_work_that_does_not_grow_is_shared_by_the_batch(card: Card) -> None:
    """An optimizer that moves 8 * 999,100 B, 79.928 us, beside 2 us each: 1 % of that from B = 3996.4 on."""
    recordings = {b: recorded([product(b, 1000, 1000), relu(999_100, phase=PHASES.index("optimizer"))]) for b in (2, 3)}
    assert find_useful_batch(recordings, card).batch == 3997


def test_memory_alone_can_be_the_limit(card: Card) -> None:
    found = find_useful_batch({batch: recorded([relu(1000 * batch)]) for batch in (2, 3)}, card)
    assert (found.batch, found.least_seconds_per_sample) == (1, pytest.approx(8e3 / 1e11))


@pytest.mark.parametrize(
    ("recordings", "reason"),
    [
        ({2: [product(2, 8, 8)], 3: [product(3, 8, 8), relu(3)]}, "other operators"),
        ({2: [product(2, 8, 2)], 3: [product(3, 8, 3)], 5: [product(5, 8, 5)]}, "in proportion"),
        ({2: [product(2, 8, 2)], 3: [product(3, 8, 3)]}, "in proportion"),
        ({2: [relu(8)], 3: [relu(8)]}, "nothing grows"),
    ],
)
def test_where_no_batch_can_be_named(recordings: dict[int, list[Op]], reason: str, card: Card) -> None:
    found = find_useful_batch({batch: recorded(ops) for batch, ops in recordings.items()}, card)
    assert found.batch is None and reason in found.reason


def test_two_batches_tell_of_any_other_in_a_real_step() -> None:
    recordings = {b: tonnage.weigh("torchvision:resnet18", batch=b, mode="training").recording for b in (2, 3, 7)}
    low = find_useful_batch({b: recordings[b] for b in (2, 3)}, A100)
    high = find_useful_batch({b: recordings[b] for b in (3, 7)}, A100)
    assert low.batch == high.batch == find_useful_batch(recordings, A100).batch
    assert low.batch is not None and low.batch > 1
    assert low.least_seconds_per_sample == pytest.approx(high.least_seconds_per_sample)
    assert low.least_seconds_per_sample < account_roofline(recordings[7], A100).step.seconds / 7
