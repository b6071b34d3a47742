"""A subject is run forward, or for a training step, and its arithmetic is counted and put into formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tonnage.pipeline.forwards import config_form
from tonnage.pipeline.weighing import DEFAULT_CARD, weigh
from tonnage.report import ComputeReport
from tonnage.workload import resolve


def flops(
    subject: Any,
    *,
    inputs: Any = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
    **scenario: Any,
) -> ComputeReport:
    """How much arithmetic `subject` takes, forward and in a step, and the closed forms of the forward pass.

        flops("bert-base-uncased", seq=128).compute.formula
        flops("torchvision:resnet50", batch=8, mode="training").compute.step_macs

    Subjects and options (`batch`, `seq`, `image_size`, `mode`, `precision`, ...) are those of `weigh`. The count does
    not depend on the card. Raises a TonnageError that says what could not be done.
    """
    report = weigh(subject, inputs=inputs, trust_remote_code=trust_remote_code, progress=progress, **scenario)
    progress("deriving the closed forms")
    workload = resolve(subject, trust_remote_code=trust_remote_code)
    form = config_form(workload, report.scenario, inputs, card=DEFAULT_CARD)
    return ComputeReport(
        tonnage_version=report.tonnage_version,
        subject=report.subject,
        scenario=report.scenario,
        compute=report.compute.settled(),
        config_form=form if form is not None and form.formula and form.total == report.compute.macs else None,
        inputs=report.inputs,
        guesses=report.guesses,
        assumptions=report.assumptions,
    )
