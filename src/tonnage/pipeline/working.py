"""A subject is run forward, or for a training step, and its arithmetic is counted and put into formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tonnage.analyses.findings import find_where_the_work_is
from tonnage.analyses.roofline import UsefulBatch, account_roofline, find_useful_batch
from tonnage.analyses.whatifs import model_what_ifs
from tonnage.gpus import Card, find_card
from tonnage.pipeline.forwards import config_form
from tonnage.pipeline.weighing import DEFAULT_CARD, weigh
from tonnage.recording import Recording
from tonnage.report import ComputeReport, Report
from tonnage.workload import resolve


def flops(
    subject: Any,
    *,
    gpu: str | None = None,
    what_if: bool = False,
    inputs: Any = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
    **scenario: Any,
) -> ComputeReport:
    """How much arithmetic `subject` takes, forward and in a step, and the closed forms of the forward pass.

        flops("bert-base-uncased", seq=128).compute.formula
        flops("torchvision:resnet50", batch=8, mode="training").compute.step_macs

    Subjects and options (`batch`, `seq`, `image_size`, `mode`, `precision`, ...) are those of `weigh`. The count does
    not depend on the card; `gpu` asks for the least time that one takes, and for the batch that is worth while on it.
    `what_if` exchanges its convolutions for those that save work. Raises a TonnageError that says what could not be
    done.
    """
    card = None if gpu is None else find_card(gpu)

    def weighed(**other: Any) -> Report:
        options = {**scenario, "gpu": gpu, "inputs": inputs, "trust_remote_code": trust_remote_code, **other}
        return weigh(subject, progress=progress, **options)

    report = weighed()
    trace = recorded(report).trace
    progress("deriving the closed forms")
    workload = resolve(subject, trust_remote_code=trust_remote_code)
    form = config_form(workload, report.scenario, inputs, card=DEFAULT_CARD)
    return ComputeReport(
        tonnage_version=report.tonnage_version,
        subject=report.subject,
        scenario=report.scenario,
        compute=report.compute.settled(),
        config_form=form if form is not None and form.formula and form.total == report.compute.macs else None,
        finding=find_where_the_work_is(trace),
        roofline=None if card is None else account_roofline(recorded(report), card),
        useful=None if card is None or inputs is not None else _useful(weighed, card),
        what_ifs=model_what_ifs(trace) if what_if else None,
        inputs=report.inputs,
        guesses=report.guesses,
        assumptions=report.assumptions,
    )


def _useful(weighed: Callable[..., Report], card: Card) -> UsefulBatch:
    """From three batches: two fix what grows with it, the third proves that it grows so."""
    return find_useful_batch({batch: recorded(weighed(batch=batch)) for batch in _BATCHES}, card)


def recorded(report: Report) -> Recording:
    assert report.recording is not None, "what was just weighed was recorded"
    return report.recording


_BATCHES = (2, 3, 5)
"""Not 1, which some kernels and models treat in a way of its own."""
