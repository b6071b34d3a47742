"""Inference and training as a script would run them."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import ClassVar

import pytest
import torch
from torch import nn

from tonnage.errors import BadOption, CannotRecord, SubjectFailed
from tonnage.scenario import OPTIMIZERS, Scenario
from tonnage.workload import optimizers, resolve, run

TRAINING_MARKS = [
    "start",
    "model loaded",
    "inputs made",
    *(f"step {n}: {what} done" for n in (1, 2) for what in ("forward", "backward", "optimizer")),
]


class Probe(nn.Module):
    """Notes what the model is called with."""

    log: ClassVar[list[dict[str, object]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        y = self.layer(x)
        self.log.append(
            {
                "training": self.training,
                "grad": torch.is_grad_enabled(),
                "inference": torch.is_inference_mode_enabled(),
                "autocast": torch.is_autocast_enabled("cpu"),
                "weight": self.layer.weight.dtype,
                "x": x.dtype,
                "y": y.dtype,
                "weight.grad": self.layer.weight.grad,
            }
        )
        return y


@pytest.fixture
def log():
    Probe.log.clear()
    return Probe.log


def test_marks_of_inference(log):
    marks = []
    run(resolve(Probe()), Scenario(), device="cpu", mark=marks.append)
    assert marks == ["start", "model loaded", "inputs made", "forward done"]
    assert [entry["training"] for entry in log] == [False]
    assert [entry["grad"] for entry in log] == [False]


def test_marks_of_training(log):
    marks = []
    run(resolve(Probe()), Scenario(mode="training"), device="cpu", mark=marks.append)
    assert marks == TRAINING_MARKS
    assert [(entry["training"], entry["grad"], entry["weight.grad"]) for entry in log] == [(True, True, None)] * 2


def test_the_users_own_modes_do_not_reach_the_step(log):
    with torch.inference_mode():
        run(resolve(Probe()), Scenario(mode="training"), device="cpu")
    assert not log[0]["inference"] and log[0]["grad"]


@pytest.mark.parametrize(
    ("precision", "autocast", "weight", "x", "y"),
    [
        ("fp32", False, torch.float32, torch.float32, torch.float32),
        ("bf16", False, torch.bfloat16, torch.bfloat16, torch.bfloat16),
        ("fp16", False, torch.float16, torch.float16, torch.float16),
        ("amp-bf16", True, torch.float32, torch.float32, torch.bfloat16),
        ("amp-fp16", True, torch.float32, torch.float32, torch.float16),
    ],
)
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_precision(log, precision, autocast, weight, x, y, mode):
    run(resolve(Probe()), Scenario(precision=precision, mode=mode), device="cpu")
    assert {key: log[0][key] for key in ("autocast", "weight", "x", "y")} == {
        "autocast": autocast,
        "weight": weight,
        "x": x,
        "y": y,
    }


def test_the_host_block_is_around_building_and_inputs_alone():
    open_blocks, during = [], {}

    @contextmanager
    def host():
        open_blocks.append(1)
        yield
        open_blocks.pop()

    run(
        resolve(nn.Linear(3, 2)),
        Scenario(),
        device="cpu",
        host=host,
        mark=lambda name: during.update({name: len(open_blocks)}),
        watch=lambda model: during.update(watch=len(open_blocks)),
    )
    assert set(during.values()) == {0}
    assert set(during) == {"start", "watch", "model loaded", "inputs made", "forward done"}


def test_inputs_and_outputs_are_held_at_the_last_mark():
    alive: dict[str, weakref.ref] = {}

    class Keeps(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            alive.update(x=weakref.ref(x), y=weakref.ref(y))
            return y

    held = {}
    run(
        resolve(Keeps(3, 2)),
        Scenario(),
        device="cpu",
        mark=lambda name: held.update({name: [key for key, ref in alive.items() if ref() is not None]}),
    )
    assert held["forward done"] == ["x", "y"]


def test_outputs_of_a_training_step_die_with_it():
    outputs: list[weakref.ref] = []

    class Returns(nn.Linear):
        def forward(self, x):
            assert all(ref() is None for ref in outputs), "the outputs of the step before are alive"
            y = super().forward(x)
            outputs.append(weakref.ref(y))
            return y

    held = {}
    run(
        resolve(Returns(3, 2)),
        Scenario(mode="training"),
        device="cpu",
        mark=lambda name: held.update({name: [ref() is not None for ref in outputs]}),
    )
    assert held["step 1: optimizer done"] == [True]
    assert held["step 2: optimizer done"] == [False, True]


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"adamw-8bit"}))
def test_every_optimizer_of_the_scenario_steps(name):
    changed = []

    def watch(model):
        before = model.weight.detach().clone()
        changed.append(lambda: not torch.equal(before, model.weight))

    run(resolve(nn.Linear(3, 2)), Scenario(mode="training", optimizer=name, batch=4), device="cpu", watch=watch)
    assert changed[0]()
    assert set(optimizers._MAKERS) == set(OPTIMIZERS)


def test_momentum_is_sgd_with_momentum():
    optimizer = optimizers.make("momentum", [nn.Parameter(torch.ones(1))])
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["momentum"] == 0.9
    assert optimizers.make("sgd", [nn.Parameter(torch.ones(1))]).defaults["momentum"] == 0


def test_what_ran_is_told():
    ran = run(resolve(nn.Linear(3, 2)), Scenario(batch=5, mode="training"), device="cpu")
    assert [tuple(spec) for spec in ran.inputs] == [("input", (5, 3), "float32", "Linear(3, 2)")]
    assert "loss: cross-entropy with random class labels" in ran.guesses


def test_given_inputs_are_told_by_the_names_of_forward():
    class Two(nn.Module):
        def forward(self, a, *, pair):
            return a + pair[0]

    inputs = ((torch.ones(2, 3),), {"pair": (torch.ones(3), "text")})
    ran = run(resolve(Two()), Scenario(), inputs=inputs, device="cpu")
    assert [tuple(spec) for spec in ran.inputs] == [
        ("a", (2, 3), "float32", "given"),
        ("pair[0]", (3,), "float32", "given"),
    ]


def test_inputs_on_meta_become_zeros():
    seen = []

    class Sees(nn.Module):
        def forward(self, ids):
            seen.append(ids.tolist())
            return ids

    run(resolve(Sees()), Scenario(), inputs=((torch.empty(2, dtype=torch.int64, device="meta"),), {}), device="cpu")
    assert seen == [[0, 0]]


def test_a_module_held_in_less_than_fp32_is_left_so_and_told():
    ran = run(resolve(nn.Linear(3, 2).bfloat16()), Scenario(), device="cpu")
    assert ran.inputs[0].dtype == "bfloat16"
    assert "the module holds bfloat16 and was left so" in ran.guesses


# ---- what goes wrong


class Raises(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.error = error

    def forward(self, x):
        raise self.error  # the user's line


def test_an_error_of_the_model_keeps_its_text_and_line():
    with pytest.raises(SubjectFailed, match="the forward pass of Raises failed") as caught:
        run(resolve(Raises(KeyError("no such key"))), Scenario(), device="cpu")
    message = str(caught.value)
    assert "KeyError: 'no such key'" in message
    assert "test_step.py" in message and "raise self.error  # the user's line" in message
    assert isinstance(caught.value.__cause__, KeyError)


def test_running_out_of_memory_passes_through():
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory$"):
        run(resolve(Raises(torch.OutOfMemoryError("CUDA out of memory"))), Scenario(), device="cpu")


@pytest.mark.parametrize("how", ["item", "bool", "tolist"])
def test_a_data_dependent_branch_is_told_apart(how):
    class Branches(nn.Module):
        def forward(self, x):
            if how == "item":
                return x * x.sum().item()
            return x if (x.sum() > 0 if how == "bool" else x.tolist()) else -x

    x = torch.ones(2, device="meta")
    with pytest.raises(CannotRecord, match="depends on values that no shape determines") as caught:
        run(resolve(Branches()), Scenario(), inputs=((x,), {}), device="meta")
    assert "test_step.py" in str(caught.value)


@pytest.fixture
def on_cpu_only():
    with torch.library._scoped_library("tonnage_test", "DEF") as library:
        library.define("on_cpu_only(Tensor x) -> Tensor")
        library.impl("on_cpu_only", torch.clone, "CPU")
        yield torch.ops.tonnage_test.on_cpu_only


def test_an_operator_without_a_rule_is_named(on_cpu_only):
    class Calls(nn.Module):
        def forward(self, x):
            return on_cpu_only(x)

    with pytest.raises(CannotRecord, match="runs tonnage_test::on_cpu_only"):
        run(resolve(Calls()), Scenario(), inputs=((torch.ones(2, device="meta"),), {}), device="meta")


def test_nothing_to_train():
    with pytest.raises(BadOption, match="no parameter that requires a gradient"):
        run(resolve(nn.Linear(2, 2).requires_grad_(False)), Scenario(mode="training"), device="cpu")


def test_outputs_without_a_loss():
    class Texts(nn.Linear):
        def forward(self, x):
            return "text"

    with pytest.raises(SubjectFailed, match="returned str without a floating tensor"):
        run(resolve(Texts(2, 2)), Scenario(mode="training"), device="cpu")


def test_options_that_a_plain_module_has_not():
    for scenario in (Scenario(checkpointing=True, mode="training"), Scenario(attention="eager")):
        with pytest.raises(BadOption, match="Linear") as caught:
            run(resolve(nn.Linear(2, 2)), scenario, device="cpu")
        assert caught.value.hint


@pytest.mark.parametrize("inputs", [torch.ones(1), (torch.ones(1),), ([torch.ones(1)], 3), {"x": torch.ones(1)}])
def test_inputs_that_are_no_pair(inputs):
    with pytest.raises(BadOption, match=r"inputs must be a pair \(args, kwargs\)"):
        run(resolve(nn.Linear(1, 1)), Scenario(), inputs=inputs, device="cpu")


@pytest.mark.parametrize("option", [{"seq": 4}, {"image_size": 32}])
def test_sizes_beside_given_inputs(option):
    with pytest.raises(BadOption, match="has no effect on inputs that are given"):
        run(resolve(nn.Linear(1, 1)), Scenario(**option), inputs=((torch.ones(1),), {}), device="cpu")
