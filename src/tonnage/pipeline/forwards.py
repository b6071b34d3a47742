"""One subject's forward pass at many sizes of its input, on one virtual card."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tonnage.analyses.closed_form.search import Question
from tonnage.analyses.closed_form.survey import Changes, Table
from tonnage.analyses.compute import products_by_module, products_of
from tonnage.analyses.compute_form import Size, derive_compute, image_steps
from tonnage.analyses.forms import ComputeForm, ParameterForm
from tonnage.analyses.parameter_form import derive_form
from tonnage.analyses.side_form import Product
from tonnage.pipeline.weighing import WITHOUT_LIMIT
from tonnage.scenario import Scenario
from tonnage.virtual import virtual_gpu
from tonnage.virtual.gpu import VirtualGpu
from tonnage.workload import Inputs, Workload
from tonnage.workload.placing import place
from tonnage.workload.resizing import NAMES, SIDE, Resizable, of_given, of_scenario
from tonnage.workload.untouched import untouched_generators
from tonnage.workload.variation import Impossible, Variation, vary
from tonnage.workload.variation.value import quietly


class Forwards:
    """`products(sizes)` are the products of a forward pass at these sizes, `sizes` those that there are."""

    def __init__(self, device: VirtualGpu, workload: Workload, scenario: Scenario, inputs: Any) -> None:
        self._device, self._workload, self._scenario = device, workload, scenario
        self._models: dict[int | None, nn.Module] = {}
        model = self._model(scenario.image_size)
        with device.host():
            made = Inputs.given(inputs) if inputs is not None else workload.make_inputs(model, scenario)
            self._resizable = self._sized(model, made)

    @property
    def sizes(self) -> list[Size]:
        return [
            Size(letter, NAMES[letter], value, image_steps() if letter == SIDE else (1,))
            for letter, value in self._resizable.sizes.items()
        ]

    def products(self, sizes: Mapping[str, int]) -> list[Product] | None:
        """None where the model does not take inputs of these sizes."""
        begin = len(self._device.recorder.raw)
        try:
            self._run(sizes)
        except Exception:  # whatever a model makes of inputs that it is not made for
            return None
        return products_of(self._device.recorder.ops(begin))

    def table(self, variation: Variation, changes: Changes) -> Table | None:
        """The products of each module itself, with other sizes of the model as well as of the input."""
        sizes = {letter: changes.get(letter, value) for letter, value in self._resizable.sizes.items()}
        others = {name: value for name, value in changes.items() if name not in sizes}
        begin = len(self._device.recorder.raw)
        try:
            with self._device.host(), quietly():
                model = variation.construct(others)
            self._forward(model.to("cuda").eval(), sizes)
        except Exception:  # whatever a model makes of sizes that do not fit each other
            return None
        modules = self._device.modules.modules
        work = products_by_module(self._device.recorder.ops(begin))
        return {modules[module].path or "model": numbers for module, numbers in work.items()}

    def _sized(self, model: nn.Module, made: Inputs) -> Resizable:
        if made.origins:
            return of_scenario(self._workload, model, self._scenario, made)
        return of_given(model, made)

    def _run(self, sizes: Mapping[str, int]) -> None:
        self._forward(self._model(sizes.get(SIDE, self._scenario.image_size)), sizes)

    def _forward(self, model: nn.Module, sizes: Mapping[str, int]) -> None:
        with self._device.host():
            made = self._resizable.at(model, sizes)
        args, kwargs = place((made.args, dict(made.kwargs)), torch.device("cuda"))
        model(*args, **kwargs)

    def _model(self, image_size: int | None) -> nn.Module:
        """Built anew for another image size, because some models are built for one."""
        if image_size not in self._models:
            with self._device.host():
                model = self._workload.build(replace(self._scenario, image_size=image_size))
            self._models[image_size] = model.to("cuda").eval()
        return self._models[image_size]


@contextmanager
def forwards(workload: Workload, scenario: Scenario, inputs: Any, *, card: str) -> Iterator[Forwards]:
    """A block in which `workload` can be run forward at many sizes. Nothing of it is kept."""
    with (
        untouched_generators(),
        torch.inference_mode(False),
        virtual_gpu(card, total_memory=WITHOUT_LIMIT) as device,
        torch.no_grad(),
    ):
        runs = Forwards(device, workload, scenario, inputs)
        with _only_new_garbage():
            yield runs


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """A block in which garbage is looked for among the objects that are made in it.

    Every few passes there are enough of those for Python to go through all that PyTorch and transformers consist of,
    400,000 objects in 0.15 s: as long as a pass. Whoever has frozen objects already is not interfered with.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def compute_form(workload: Workload, scenario: Scenario, inputs: Any, *, card: str) -> ComputeForm:
    """The forward MACs of `workload` in the sizes of its inputs."""
    with forwards(workload, scenario, inputs, card=card) as passes:
        return derive_compute(passes.products, passes.sizes)


def config_form(workload: Workload, scenario: Scenario, inputs: Any, *, card: str) -> ParameterForm | None:
    """The forward MACs in the sizes of its config as well; None where it has none. The image side is as recorded."""
    variation = vary(workload)
    if variation is None:
        return None
    with forwards(workload, scenario, inputs, card=card) as passes:
        lengths = {size.symbol: size.value for size in passes.sizes if size.symbol != SIDE}
        if passes.table(variation, {}) is None:
            return None
        return derive_form(_question(passes, variation, lengths), [])


def _question(passes: Forwards, variation: Variation, lengths: Mapping[str, int]) -> Question:
    def follow(changes: Changes) -> Mapping[str, int] | None:
        try:
            return variation.follow({name: value for name, value in changes.items() if name not in lengths})
        except Impossible:
            return None

    return Question(
        sizes={**variation.fields, **lengths},
        ask=lambda changes: passes.table(variation, changes),
        following=variation.following,
        follow=follow,
        what="MACs",
    )
