"""The stages in order: a subject is resolved, run on the virtual GPU, and its recording analysed into a Report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from tonnage import __version__
from tonnage.allocator import Settings, Timeline, replay_unrounded
from tonnage.analyses.compute import Compute, account_compute
from tonnage.analyses.deferred import deferring
from tonnage.analyses.fit import judge, judge_memory, replay_without_limit
from tonnage.analyses.forms import ComputeForm, ParameterForm
from tonnage.analyses.memory import account_memory
from tonnage.analyses.parameters import count_parameters
from tonnage.analyses.verdict import Verdict
from tonnage.errors import BadOption
from tonnage.gpus import Card, find_card
from tonnage.pipeline.describing import described
from tonnage.recording import Assumption, NotCounted, Recording
from tonnage.report import Input, Report
from tonnage.scenario import Attention, Mode, Optimizer, Precision, Scenario
from tonnage.units import TiB, parse_bytes
from tonnage.virtual import VirtualDevice, virtual_cpu, virtual_gpu
from tonnage.workload import Ran, Workload, resolve, run
from tonnage.workload.workload import InputSpec

WITHOUT_LIMIT = 1024 * TiB
"""Memory enough to record any step to its end, also one that does not fit the card."""

CPU = "cpu"
"""In place of a card's name."""

DEFAULT_CARD = "A100-SXM4-80GB"
"""Whose kernels are chosen where no card was named; the card that most published figures are of."""

LIBRARIES = NotCounted(
    "kernels and libraries that CUDA loads at first use, but for what is typical of cuBLAS and cuDNN",
    "outside PyTorch's memory, commonly 50 to 300 MiB of nvidia-smi's figure; the high end of its range allows for it",
)

KERNELS = NotCounted(
    "what the CPU's kernels take inside themselves",
    "weights that oneDNN reorders, operands that are written out, attention's buffers; `tonnage measure` counts them",
)
_OUTSIDE = {"cuda": LIBRARIES, "cpu": KERNELS}


def weigh(
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
    gpu: str | None = None,
    gpu_memory: int | str | None = None,
    torch_version: str | None = None,
    alloc_conf: str | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Report:
    """What `subject` takes of a GPU's memory, and whether that fits the card `gpu`.

        weigh("bert-base-uncased", batch=8, seq=128, mode="training", gpu="RTX 3060 Laptop")
        weigh(my_module, inputs=((x,), {"mask": m}), gpu="T4")
        weigh("torchvision:vgg16", batch=32).memory.peak.allocated_bytes

    `subject` is a name ("bert-base-uncased", "torchvision:vgg16", "timm:...", "path/file.py:factory"), a transformers
    config, or a module, which is never changed. `inputs` are (args, kwargs) to use as they are; without them they are
    made from the model's signature and `batch`, `seq`, `image_size`. "training" is a steady-state step after a first.
    The peak is over everything from the loading of the model on.

    Without `gpu` the kernels are those of an A100-SXM4-80GB, memory has no limit and there is no verdict. "cpu" is the
    CPU: its kernels, the bytes of its tensors, a verdict only with `gpu_memory`.
    `gpu_memory` (bytes, or text such as "6GiB") replaces what the catalogue says that card has. `torch_version` and
    `alloc_conf` are whose memory behaviour to follow (default: the installed) and PYTORCH_CUDA_ALLOC_CONF.
    `progress` is called with each stage. Bytes are integers. Raises a TonnageError that says what could not be done.
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
    return weigh_scenario(
        subject,
        scenario,
        inputs=inputs,
        gpu=gpu,
        gpu_memory=gpu_memory,
        torch_version=torch_version,
        alloc_conf=alloc_conf,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )


def weigh_scenario(
    subject: Any,
    scenario: Scenario,
    *,
    inputs: Any = None,
    gpu: str | None = None,
    gpu_memory: int | str | None = None,
    torch_version: str | None = None,
    alloc_conf: str | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Report:
    """`weigh`, where the scenario is there already."""
    on_cpu = gpu is not None and gpu.casefold() == CPU
    card = None if on_cpu else _card(gpu, gpu_memory)
    if on_cpu:
        _refuse(torch_version=torch_version, alloc_conf=alloc_conf)
    progress("looking for the model")
    asked = _Asked(resolve(subject, trust_remote_code=trust_remote_code), scenario, inputs)
    if on_cpu:
        return _on_cpu(asked, memory=gpu_memory, progress=progress)
    return _on_card(asked, card, torch_version=torch_version, alloc_conf=alloc_conf, progress=progress)


@dataclass(frozen=True)
class _Asked:
    """What is run, whichever device it is run on."""

    workload: Workload
    scenario: Scenario
    inputs: Any


def _on_card(
    asked: _Asked,
    card: Card | None,
    *,
    torch_version: str | None,
    alloc_conf: str | None,
    progress: Callable[[str], None],
) -> Report:
    rules = card or find_card(DEFAULT_CARD)
    models: list[Any] = []  # held to the end of the block: the recording names the parameters of what is alive then
    with virtual_gpu(
        rules.name, torch_version=torch_version, total_memory=WITHOUT_LIMIT, alloc_conf=alloc_conf
    ) as device:
        ran = _run(asked, device, models, host=device.host, progress=progress)
    progress("replaying the allocator")
    recording = _of_card(device.recording, rules)
    verdict, timeline = _verdict(recording, card)
    return _report(asked, ran, recording, verdict, timeline, card=card.name if card else None)


def _on_cpu(asked: _Asked, *, memory: int | str | None, progress: Callable[[str], None]) -> Report:
    models: list[Any] = []  # as above
    with virtual_cpu() as device:
        ran = _run(asked, device, models, progress=progress)
    recording = device.recording
    verdict = judge_memory(recording, _bytes(memory)) if memory is not None else None
    timeline = replay_unrounded(recording.ledger)
    return _report(asked, ran, recording, verdict, timeline, card=recording.environment.device)


def _refuse(**options: str | None) -> None:
    """Options that are a card's alone."""
    for option, given in options.items():
        if given is not None:
            raise BadOption(f"{option} has no effect on the CPU", hint=f"leave {option} out, or name a card")


def _run(
    asked: _Asked,
    device: VirtualDevice,
    models: list[Any],
    *,
    host: Callable[[], AbstractContextManager[Any]] = nullcontext,
    progress: Callable[[str], None],
) -> Ran:
    """Runs the scenario on a device that carries no data. `models` gets the model."""
    progress("building the model")

    def mark(name: str) -> None:
        device.mark(name)
        progress(name)

    def watch(model: Any) -> None:
        device.watch(model)
        models.append(model)

    where = device.habits.device.type
    return run(asked.workload, asked.scenario, inputs=asked.inputs, device=where, host=host, mark=mark, watch=watch)


def _bytes(memory: int | str) -> int:
    return parse_bytes(memory) if isinstance(memory, str) else memory


def _card(gpu: str | None, gpu_memory: int | str | None) -> Card | None:
    if gpu is None:
        if gpu_memory is not None:
            raise BadOption("gpu_memory is the memory of no card", hint="name the card as well: --gpu NAME")
        return None
    card = find_card(gpu)
    if gpu_memory is None:
        return card
    return card.with_total_memory(_bytes(gpu_memory))


def _of_card(recording: Recording, card: Card) -> Recording:
    """`recording` with the memory that the card has, not that it was recorded with."""
    return replace(recording, environment=replace(recording.environment, total_memory=card.total_memory.typical))


def _verdict(recording: Recording, card: Card | None) -> tuple[Verdict | None, Timeline]:
    settings = Settings.parse(recording.environment.alloc_conf)
    return judge(recording, card, settings) if card else (None, replay_without_limit(recording, settings))


def _compute(asked: _Asked, recording: Recording) -> Compute:
    found = account_compute(recording)
    on_card = recording.environment.device_type == "cuda"
    card = recording.environment.device if on_card else DEFAULT_CARD  # the arithmetic is the same on all of them
    return deferring(found, lambda: _compute_form(asked, card, found.macs))


def _compute_form(asked: _Asked, card: str, macs: int) -> ComputeForm:
    """Imports sympy, which takes longer than to weigh most models."""
    from tonnage.analyses.compute_form import agreeing
    from tonnage.pipeline.forwards import compute_form

    return agreeing(compute_form(asked.workload, asked.scenario, asked.inputs, card=card), macs)


def _parameter_form(workload: Workload) -> ParameterForm:
    """Imports sympy, as `_compute_form`."""
    from tonnage.pipeline.counting import form_of_workload

    return form_of_workload(workload)


def inputs_of(specs: Iterable[InputSpec]) -> list[Input]:
    return [Input(name=i.name, shape=i.shape, dtype=i.dtype, origin=i.origin) for i in specs]


def _report(
    asked: _Asked, ran: Ran, recording: Recording, verdict: Verdict | None, timeline: Timeline, *, card: str | None
) -> Report:
    """The report of what was recorded without data; `card` is the device that was asked about."""
    assumptions = list(recording.assumptions)
    if card is None:
        what = f"no card was named: kernels are those of {DEFAULT_CARD}, memory has no limit"
        assumptions.insert(0, Assumption(what))
    report = Report(
        tonnage_version=__version__,
        subject=described(asked.workload),
        scenario=asked.scenario,
        card=card,
        parameters=deferring(count_parameters(recording.trace), lambda: _parameter_form(asked.workload)),
        compute=_compute(asked, recording),
        memory=account_memory(recording, timeline),
        verdict=verdict,
        inputs=inputs_of(ran.inputs),
        guesses=list(ran.guesses),
        assumptions=assumptions,
        not_counted=[_OUTSIDE[recording.environment.device_type], *recording.not_counted],
        environment=recording.environment,
    )
    return report.with_recording(lambda: recording)
