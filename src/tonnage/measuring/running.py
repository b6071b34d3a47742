"""Runs a scenario on a real device, as often as asked, and tells of each run as it ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tonnage.errors import TonnageError
from tonnage.measuring import recorder_for
from tonnage.recording import Recording
from tonnage.scenario import Scenario
from tonnage.workload import Ran, Workload, run

_CPU_RAN_OUT = "DefaultCPUAllocator: can't allocate memory"
"""c10/core/impl/alloc_cpu.cpp, alloc_cpu; a RuntimeError and no class of its own."""


@dataclass(frozen=True)
class Stopped:
    """Why a run did not get to its end."""

    out_of_memory: bool
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Finished:
    """One run: its recording, complete unless it was `stopped`, and what was run, if it got so far."""

    recording: Recording
    ran: Ran | None
    stopped: Stopped | None


def runs(
    workload: Workload,
    scenario: Scenario,
    *,
    device: str,
    repeats: int,
    warmup: int,
    inputs: Any = None,
    say: Callable[[str], None] = lambda stage: None,
) -> Iterator[Finished]:
    """Each of `repeats` runs, after `warmup` ones that are not told of. One that is stopped is the last."""
    for number in range(1 - warmup, repeats + 1):
        name = f"run {number} of {repeats}" if number > 0 else "warming up"
        finished = _once(workload, scenario, device, inputs, _prefixed(say, name))
        gc.collect()
        if number > 0 or finished.stopped:
            yield finished
        if finished.stopped:
            return


def _prefixed(say: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda stage: say(f"{name}: {stage}")


def _once(workload: Workload, scenario: Scenario, device: str, inputs: Any, say: Callable[[str], None]) -> Finished:
    ran, stopped = None, None
    models = []  # held to the end of the run: the recording names the parameters of what is alive then

    with recorder_for(device) as recorder:

        def mark(name: str) -> None:
            recorder.mark(name)
            say(name)

        def watch(model: torch.nn.Module) -> None:
            recorder.watch(model)
            _fill(model, workload)
            models.append(model)

        say("building the model")
        try:
            ran = run(workload, scenario, inputs=inputs, device=device, mark=mark, watch=watch)
        except Exception as error:
            stopped = _stopped(error)
    return Finished(recorder.recording, ran, stopped)


def _fill(model: torch.nn.Module, workload: Workload) -> None:
    """Gives the copy of a live module, whose large tensors hold whatever was there, random numbers in place."""
    if workload.kind == "module":
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.normal_(std=0.02)


def _stopped(error: Exception) -> Stopped:
    """`error` as a result. What is neither memory nor the user's own mistake is raised again."""
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in reversed(causes):  # the innermost says it in the allocator's own words
        if isinstance(cause, (torch.OutOfMemoryError, MemoryError)) or _CPU_RAN_OUT in str(cause):
            return Stopped(True, " ".join(str(cause).split()) or type(cause).__name__)
    if isinstance(error, TonnageError):
        return Stopped(False, error.message, error.hint)
    raise error
