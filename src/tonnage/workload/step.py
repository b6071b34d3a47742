"""One inference or two training steps, as a training script would write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tonnage.errors import BadOption
from tonnage.scenario import Scenario
from tonnage.workload import optimizers, options
from tonnage.workload.failures import blaming
from tonnage.workload.layers import HINT
from tonnage.workload.loss import loss_of
from tonnage.workload.placing import place
from tonnage.workload.untouched import untouched_generators
from tonnage.workload.workload import Inputs, InputSpec, Workload

STEPS = 2
"""Optimizers make their state in the first step, so the second is the steady state."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}


@dataclass(frozen=True)
class Ran:
    """What was run: every tensor that went in, and everything that nobody had said."""

    inputs: tuple[InputSpec, ...]
    guesses: tuple[str, ...]


@dataclass(frozen=True)
class _Step:
    """What the steps of one run share."""

    model: nn.Module
    name: str
    scenario: Scenario
    device: torch.device
    mark: Callable[[str], None]


def run(
    workload: Workload,
    scenario: Scenario,
    *,
    inputs: Any = None,
    device: torch.device | str = "cuda",
    host: Callable[[], AbstractContextManager[Any]] = nullcontext,
    mark: Callable[[str], None] = lambda name: None,
    watch: Callable[[nn.Module], None] = lambda model: None,
) -> Ran:
    """Builds the model inside `host()`, moves it to `device` and runs `scenario` there.

    `inputs` are the user's own (args, kwargs). `mark` is called at each instant that has a name: "start", "model
    loaded", "inputs made", then "forward done", or for steps 1 and 2 "step N: forward done", "step N: backward
    done", "step N: optimizer done". `watch` is called with the model once it is on the device.

    Inputs, outputs and loss are what a script would hold: the inputs until the end, the outputs and the loss of a
    training step until that step ends, through backward and the optimizer. Gradients are set to None after each
    step. `amp-fp16` runs without a gradient scaler.

    The random number generators on the CPU are left as they were. Raises SubjectFailed for what the model's own
    code raised, CannotRecord where it asked for a value that is not there; torch.OutOfMemoryError passes through.
    """
    _check(scenario, inputs)
    where = torch.device(device)
    with untouched_generators(), torch.inference_mode(False), torch.enable_grad():
        with host():
            model = _build(workload, scenario)
        mark("start")
        with blaming(f"moving {workload.name} to {where}", hint="the module's own `to` raised this"):
            model.to(where)
        watch(model)
        mark("model loaded")
        step = _Step(model, workload.name, scenario, where, mark)
        made = _train(step, workload, host, inputs) if scenario.training else _infer(step, workload, host, inputs)
    return Ran(made.specs(model), (*workload.guesses, *_left_alone(model, scenario), *made.guesses))


def _check(scenario: Scenario, inputs: Any) -> None:
    for option in ("seq", "image_size"):
        if inputs is not None and getattr(scenario, option) is not None:
            raise BadOption(f"{option} has no effect on inputs that are given", hint=f"leave {option} out")


def _build(workload: Workload, scenario: Scenario) -> nn.Module:
    model = workload.build(scenario)
    options.set_checkpointing(model, scenario)
    if scenario.precision in ("bf16", "fp16"):
        model.to(_DTYPES[scenario.precision])
    return model


def _make_inputs(
    step: _Step, workload: Workload, host: Callable[[], AbstractContextManager[Any]], given: Any
) -> Inputs:
    with host(), blaming(f"making inputs for {step.name}", hint=HINT):
        made = workload.make_inputs(step.model, step.scenario) if given is None else Inputs.given(given)
    placed = place((made.args, dict(made.kwargs), made.target), step.device)
    step.mark("inputs made")
    return replace(made, args=placed[0], kwargs=placed[1], target=placed[2])


def _infer(step: _Step, workload: Workload, host: Callable[[], AbstractContextManager[Any]], given: Any) -> Inputs:
    step.model.eval()
    made = _make_inputs(step, workload, host, given)
    with torch.no_grad(), _autocast(step):
        outputs = _forward(step, made)
    step.mark("forward done")
    del outputs
    return made


def _train(step: _Step, workload: Workload, host: Callable[[], AbstractContextManager[Any]], given: Any) -> Inputs:
    step.model.train()
    if not any(parameter.requires_grad for parameter in step.model.parameters()):
        raise BadOption(f"{step.name} has no parameter that requires a gradient", hint="weigh mode='inference'")
    optimizer = optimizers.make(step.scenario.optimizer, step.model.parameters())
    made = _make_inputs(step, workload, host, given)
    target, said = made.target, ""
    for number in range(1, STEPS + 1):
        target, said = _training_step(step, replace(made, target=target), optimizer, f"step {number}: ")
    return replace(made, guesses=(*made.guesses, f"loss: {said}", *_unscaled(step.scenario), *_borrowed(optimizer)))


def _training_step(
    step: _Step, made: Inputs, optimizer: torch.optim.Optimizer, prefix: str
) -> tuple[torch.Tensor | None, str]:
    """One step in a function of its own: outputs and loss die when it returns, as in the Trainer's loop."""
    with _autocast(step):
        outputs = _forward(step, made)
        loss = loss_of(outputs, made.target, step.scenario.batch)
    step.mark(prefix + "forward done")
    with blaming(f"the backward pass of {step.name}", hint=HINT):
        loss.value.backward()
    step.mark(prefix + "backward done")
    with blaming(f"the {step.scenario.optimizer} step of {step.name}", hint="try another optimizer"):
        optimizer.step()
    step.mark(prefix + "optimizer done")
    optimizer.zero_grad(set_to_none=True)
    return loss.target, loss.said


def _forward(step: _Step, made: Inputs) -> Any:
    with blaming(f"the forward pass of {step.name}", hint=HINT):
        return step.model(*made.args, **made.kwargs)


def _autocast(step: _Step) -> AbstractContextManager[Any]:
    if not step.scenario.precision.startswith("amp-"):
        return nullcontext()
    return torch.autocast(step.device.type, dtype=_DTYPES[step.scenario.precision])


def _borrowed(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    found = optimizers.origin(optimizer)
    return (f"optimizer: {found}",) if found else ()


def _unscaled(scenario: Scenario) -> tuple[str, ...]:
    return ("amp-fp16: no gradient scaler",) if scenario.precision == "amp-fp16" else ()


def _left_alone(model: nn.Module, scenario: Scenario) -> Iterator[str]:
    """fp32 does not cast: a module that is held in less stays so."""
    held = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    if held and scenario.precision in ("fp32", "amp-bf16", "amp-fp16"):
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in held))
        yield f"the module holds {names} and was left so"
