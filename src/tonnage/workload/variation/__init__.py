"""The sizes of a subject that can be changed, and what it is made of when they are."""

from __future__ import annotations

from tonnage.workload.python import PythonWorkload
from tonnage.workload.timm import TimmWorkload
from tonnage.workload.torchvision import TorchvisionWorkload
from tonnage.workload.transformers import TransformersWorkload
from tonnage.workload.variation import calls, configs
from tonnage.workload.variation.value import Impossible as Impossible
from tonnage.workload.variation.value import Variation as Variation
from tonnage.workload.workload import Workload


def vary(workload: Workload) -> Variation | None:
    """How `workload` can be varied; None where nothing says which sizes it was built from.

    A config of transformers by its fields, models of torchvision and timm by the arguments of their class, a
    factory by its keywords, a module of `torch.nn` by the arguments that its attributes still tell.
    """
    match workload:
        case TransformersWorkload():
            return configs.from_config(workload)
        case PythonWorkload():
            return calls.from_factory(workload)
        case TorchvisionWorkload() | TimmWorkload():
            return calls.from_builder(workload)
    return calls.from_module(workload)
