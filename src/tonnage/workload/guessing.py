"""Which library's inputs a model takes, for models that come without a library's name."""

from __future__ import annotations

from torch import nn

from tonnage.scenario import Scenario
from tonnage.workload import layers, timm, torchvision, transformers_inputs
from tonnage.workload.workload import Inputs


def inputs_for(model: nn.Module, scenario: Scenario) -> Inputs:
    """Inputs after the config of the model's library, or else after its first layers."""
    if transformers_inputs.knows(model):
        return transformers_inputs.make(model, scenario)
    if timm.knows(model):
        return timm.make_inputs(model, scenario)
    if torchvision.knows(model):
        return torchvision.make_inputs(model, scenario)
    return layers.guess(model, scenario)
