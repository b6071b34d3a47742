"""A subject is run for real, and set beside what was predicted for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch
from msgspec import Struct

from tonnage.allocator import Settings
from tonnage.analyses.fit import replay_without_limit
from tonnage.analyses.measurement import Measurement, measurement_of
from tonnage.analyses.memory import account_memory
from tonnage.errors import BadOption, CannotMeasure, UnknownCard
from tonnage.gpus import find_card
from tonnage.measuring import DEVICES
from tonnage.pipeline.gathering import Seen, here, in_child
from tonnage.pipeline.weighing import inputs_of, weigh_scenario
from tonnage.report import Report
from tonnage.scenario import Attention, Mode, Optimizer, Precision, Scenario


class Measured(Struct, frozen=True, kw_only=True):
    """A measurement, the report of its first complete run, and what was predicted for the same scenario.

    `report` is of a run that did not get to its end where none did, and None where there is nothing of any.
    """

    measurement: Measurement
    report: Report | None
    predicted: Report

    def to_json(self) -> str:
        settled = msgspec.structs.replace(
            self, report=self.report.settled() if self.report else None, predicted=self.predicted.settled()
        )
        return msgspec.json.format(msgspec.json.encode(settled), indent=2).decode()


def measure(
    subject: Any,
    *,
    batch: int = 1,
    seq: int | None = None,
    image_size: int | None = None,
    inputs: Any = None,
    mode: Mode = "inference",
    optimizer: Optimizer = "adamw",
    precision: Precision = "fp32",
    attention: Attention | None = None,
    checkpointing: bool = False,
    device: str | None = None,
    repeats: int = 3,
    warmup: int = 1,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Measured:
    """What `subject` really takes of a device's memory, beside what `weigh` predicts.

        measure("bert-base-uncased", batch=8, seq=128, mode="training")
        measure(my_module, inputs=((x,), {}), device="cpu").measurement.spread["peak_allocated"].mean
        measure("t5-small", device="cpu").report.recording

    `subject`, `inputs` and the scenario are as for `weigh`; weights are random, none are fetched. `device` is "cuda" or
    "cpu" (default: cuda if there is one). The scenario is run `warmup` times unrecorded, then `repeats` times, each
    with a new model.

    A subject that has a name is run in a child process, so that running out of memory, a crash, or a device that goes
    away is a result (`measurement.failure`), and runs that were complete by then are kept; Ctrl-C ends the child and
    keeps them too. A module or config that is given, or inputs that are, cannot be handed over: these run in this
    process, on a copy. Bytes are integers. Raises CannotMeasure where there is no such device or nothing was measured,
    and whatever `weigh` raises.
    """
    scenario = Scenario(
        batch=batch,
        seq=seq,
        image_size=image_size,
        mode=mode,
        optimizer=optimizer,
        precision=precision,
        attention=attention,
        checkpointing=checkpointing,
    )
    _count("repeats", repeats, least=1)
    _count("warmup", warmup, least=0)
    device = _device(device)
    predicted = weigh_scenario(
        subject,
        scenario,
        inputs=inputs,
        gpu=_gpu(device),
        trust_remote_code=trust_remote_code,
        progress=lambda stage: progress(f"predicting: {stage}"),
    )
    apart = isinstance(subject, str) and inputs is None
    task = {
        "subject": subject,
        "scenario": scenario,
        "device": device,
        "repeats": repeats,
        "warmup": warmup,
        "trust_remote_code": trust_remote_code,
    }
    seen = in_child(**task, progress=progress) if apart else here(**task, inputs=inputs, progress=progress)
    measurement = measurement_of(
        seen.recordings,
        complete=seen.complete,
        repeats=repeats,
        warmup=warmup,
        device=device,
        in_process=not apart,
        failure=seen.failure,
    )
    return Measured(measurement=measurement, report=_report(seen, predicted), predicted=predicted)


def _count(name: str, value: int, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadOption(f"{name} must be a whole number of at least {least}, not {value!r}", hint=f"try {name}={least}")


def _device(asked: str | None) -> str:
    has_cuda = torch.cuda.is_available()
    if asked is None:
        return "cuda" if has_cuda else "cpu"
    if asked not in DEVICES:
        raise BadOption(f"device {asked!r} is not known", hint=f"choose one of {', '.join(DEVICES)}")
    if asked == "cuda" and not has_cuda:
        built = (
            f"built for CUDA {torch.version.cuda}, but finds no card" if torch.version.cuda else "built without CUDA"
        )
        raise CannotMeasure(
            f"there is no CUDA device: found torch {torch.__version__}, {built}",
            hint="--device cpu measures on the CPU; `tonnage weigh --gpu NAME` needs no card",
        )
    return asked


def _gpu(device: str) -> str | None:
    """Whose habits the prediction follows: the card's that is measured on, if the catalogue has it."""
    if device == "cpu":
        return "cpu"
    try:
        return find_card(torch.cuda.get_device_name()).name
    except UnknownCard:
        return None


def _report(seen: Seen, predicted: Report) -> Report | None:
    """The report of the first complete run, or of one that got as far as it did."""
    if seen.failure is not None and not seen.recordings and seen.failure.trouble == "failed":
        raise CannotMeasure(f"nothing was measured: {seen.failure.message}", hint=seen.failure.hint)
    number = seen.complete.index(True) if any(seen.complete) else 0
    recording = seen.recordings[number] if seen.recordings else None
    if recording is None or not len(recording.ledger):
        return None
    timeline = replay_without_limit(recording, Settings.parse(recording.environment.alloc_conf))
    report = msgspec.structs.replace(
        predicted,
        card=recording.environment.device,
        memory=account_memory(recording, timeline),
        verdict=None,
        inputs=inputs_of(seen.inputs),
        guesses=seen.guesses,
        assumptions=list(recording.assumptions),
        not_counted=list(recording.not_counted),
        environment=recording.environment,
    )
    return report.with_recording(lambda: recording)
