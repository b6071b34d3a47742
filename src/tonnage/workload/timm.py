"""`timm:NAME`: models of timm, without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tonnage.errors import BadOption, UnknownModel
from tonnage.scenario import Scenario
from tonnage.workload import libraries
from tonnage.workload.failures import blaming
from tonnage.workload.names import did_you_mean
from tonnage.workload.torchvision import image_inputs
from tonnage.workload.workload import Inputs, Workload


@dataclass(frozen=True, kw_only=True)
class TimmWorkload(Workload):
    """A registered model of timm."""

    model_name: str

    def build(self, scenario: Scenario) -> nn.Module:
        if scenario.attention:
            raise BadOption("timm's models choose their attention themselves", hint="leave attention out")
        timm = libraries.load("timm")
        arguments: dict[str, Any] = {}
        if scenario.image_size and _fixed_size(timm, self.model_name):
            arguments["img_size"] = scenario.image_size
        with blaming(f"building {self.name}", hint="see the message of timm above"):
            model: nn.Module = timm.create_model(self.model_name, pretrained=False, **arguments)
        return model

    def make_inputs(self, model: nn.Module, scenario: Scenario) -> Inputs:
        return make_inputs(model, scenario)


def resolve(model_name: str) -> TimmWorkload:
    """The model that timm registers as `model_name`; a tag after a dot names weights, of which none are needed."""
    timm = libraries.load("timm")
    if not timm.is_model(model_name):
        near = did_you_mean(model_name, timm.list_models(), otherwise="timm.list_models() has the names")
        raise UnknownModel(f"timm has no model {model_name!r}", hint=near)
    return TimmWorkload(
        name=f"timm:{model_name}",
        kind="timm",
        class_name=_class_name(timm, model_name),
        library=libraries.label(timm),
        description="timm's model without weights",
        model_name=model_name,
    )


def _class_name(timm: Any, model_name: str) -> str:
    returned = timm.model_entrypoint(model_name).__annotations__.get("return", "")
    return returned if isinstance(returned, str) else getattr(returned, "__name__", str(returned))


def _fixed_size(timm: Any, model_name: str) -> bool:
    config = timm.models.get_pretrained_cfg(model_name)
    return bool(config and config.fixed_input_size)


def knows(model: nn.Module) -> bool:
    """Whether `model` carries timm's description of its input."""
    return "input_size" in _config(model)


def _config(model: nn.Module) -> dict[str, Any]:
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    return config if isinstance(config, dict) else {}


def make_inputs(model: nn.Module, scenario: Scenario) -> Inputs:
    """Images in the size of the model's default config, and class labels for training."""
    if scenario.seq is not None:
        raise BadOption(f"{type(model).__name__} takes no tokens, so seq means nothing to it", hint="leave seq out")
    channels, *sides = _config(model).get("input_size", (3, 224, 224))
    origin = "default_cfg['input_size']"
    if scenario.image_size:
        sides, origin = [scenario.image_size] * 2, "image_size"
    classes = getattr(model, "num_classes", 0)
    return image_inputs(model, scenario, shape=(scenario.batch, channels, *sides), origin=origin, classes=classes)
