"""Live modules: never changed, never run; a dataless copy is."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from torch import nn

from tonnage.scenario import Scenario
from tonnage.workload import guessing, options
from tonnage.workload.dataless import copy_dataless, differences
from tonnage.workload.libraries import label
from tonnage.workload.workload import Inputs, Workload


@dataclass(frozen=True, kw_only=True)
class ModuleWorkload(Workload):
    """A module that the user already has."""

    module: nn.Module

    def build(self, scenario: Scenario) -> nn.Module:
        model = copy_dataless(self.module)
        options.set_attention(model, scenario)
        return model

    def make_inputs(self, model: nn.Module, scenario: Scenario) -> Inputs:
        return guessing.inputs_for(model, scenario)


def from_module(module: nn.Module, *, name: str = "", description: str = "a live module") -> ModuleWorkload:
    """The workload of a live module, on whatever device it is; SubjectFailed if it cannot be copied."""
    compiled = getattr(module, "_orig_mod", None)
    eager = compiled if isinstance(compiled, nn.Module) else module
    note = ("compiled module: run uncompiled",) if eager is not module else ()
    return ModuleWorkload(
        name=name or type(eager).__name__,
        kind="module",
        class_name=type(eager).__name__,
        library=library_of(type(eager)),
        description=description,
        guesses=(*note, *differences(eager)),
        module=eager,
    )


def library_of(cls: type[nn.Module]) -> str:
    """The package that defines `cls`, with its version where it has one: "timm 1.0.31", "my_models"."""
    package = cls.__module__.partition(".")[0]
    return label(sys.modules[package]) if package in sys.modules else package
