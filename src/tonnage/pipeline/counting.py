"""A subject is built, without weights and without being run, and its parameters are counted and put into a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tonnage import __version__
from tonnage.analyses.closed_form.derive import total_of
from tonnage.analyses.closed_form.search import Question
from tonnage.analyses.closed_form.survey import Changes, Table
from tonnage.analyses.deferred import deferring
from tonnage.analyses.forms import ParameterForm
from tonnage.analyses.parameter_form import derive_form
from tonnage.analyses.parameters import count_parameters
from tonnage.errors import BadOption
from tonnage.pipeline.describing import described
from tonnage.report import ParameterReport
from tonnage.scenario import Scenario
from tonnage.trace import Trace
from tonnage.workload import Workload, resolve
from tonnage.workload.blueprint import members_of, modules_of
from tonnage.workload.untouched import untouched_generators
from tonnage.workload.variation import Impossible, Variation, vary


def params(
    subject: Any,
    *,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> ParameterReport:
    """How many parameters `subject` has, and why exactly that many.

        params("bert-base-uncased").parameters.formula
        params(transformers.T5Config()).parameters.evaluate(d_model=768, num_heads=12)

    `subject` is whatever `weigh` takes. It is built without weights, also at other sizes, and never run. Every tensor
    counts once, whatever names it has. Raises a TonnageError that says what could not be done.
    """
    progress("looking for the model")
    workload = resolve(subject, trust_remote_code=trust_remote_code)
    progress("building the model")
    model, variation = build_dataless(workload), vary(workload)
    counted = count_parameters(Trace(modules=modules_of(model), parameters=list(members_of(model))))
    progress("building it at other sizes")
    return ParameterReport(
        tonnage_version=__version__,
        subject=described(workload),
        parameters=deferring(counted, lambda: form_of(model, variation)).settled(),
        guesses=list(workload.guesses),
    )


def count_at(subject: Any, sizes: Mapping[str, int], *, trust_remote_code: bool = False) -> int:
    """The parameters of `subject` built with other sizes, counted; BadOption where it cannot be built so."""
    variation = vary(resolve(subject, trust_remote_code=trust_remote_code))
    if variation is None:
        raise BadOption("nothing says which sizes this model was built from", hint="name a config or a factory")
    try:
        return total_of(_table(variation.build(sizes)))
    except Impossible as error:
        said = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise BadOption(f"no such model can be built with {said}: {error}", hint="choose sizes that fit") from None


def build_dataless(workload: Workload) -> nn.Module:
    """The model without data, as its constructors leave it."""
    with untouched_generators(), torch.device("meta"):
        return workload.build(Scenario())


def form_of(model: nn.Module, variation: Variation | None) -> ParameterForm:
    """The closed form of a built model; the arithmetic of its modules where `variation` does not make it."""
    question = None if variation is None else _varied(variation)
    if question is None or question.ask({}) != _table(model):
        question = _fixed(model)
    return derive_form(question, modules_of(model))


def form_of_workload(workload: Workload) -> ParameterForm:
    return form_of(build_dataless(workload), vary(workload))


def _table(model: nn.Module) -> Table:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _fixed(model: nn.Module) -> Question:
    table = _table(model)
    return Question(sizes={}, ask=lambda changes: table)


def _varied(variation: Variation) -> Question:
    def ask(changes: Changes) -> Table | None:
        try:
            return _table(variation.build(changes))
        except Impossible:
            return None

    def follow(changes: Changes) -> Mapping[str, int] | None:
        try:
            return variation.follow(changes)
        except Impossible:
            return None

    return Question(
        sizes=variation.fields,
        ask=ask,
        following=variation.following,
        follow=follow,
        flags={name: value for name, value in variation.settings.items() if isinstance(value, bool)},
        aliases=variation.aliases,
    )
