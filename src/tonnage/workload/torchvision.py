"""`torchvision:NAME`: models of torchvision, without weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from tonnage.errors import BadOption, UnknownModel
from tonnage.scenario import Scenario
from tonnage.workload import libraries, tensors
from tonnage.workload.failures import blaming
from tonnage.workload.layers import HINT
from tonnage.workload.names import did_you_mean
from tonnage.workload.workload import Inputs, Workload

_SIDES = {"Inception3": 299}
_SIDE = 224
_FRAMES, _CLIP_SIDE = 16, 112  # the training size of torchvision's video ResNets
_CLIP_SIDES = {"MViT": 224, "SwinTransformer3d": 224, "S3D": 224}


@dataclass(frozen=True, kw_only=True)
class TorchvisionWorkload(Workload):
    """A registered model of torchvision."""

    model_name: str

    def build(self, scenario: Scenario) -> nn.Module:
        if scenario.attention:
            raise BadOption("torchvision's models have one attention", hint="leave attention out")
        arguments: dict[str, Any] = {"weights": None}
        builder = libraries.load("torchvision").models.get_model_builder(self.model_name)
        if "weights_backbone" in inspect.signature(builder).parameters:
            arguments["weights_backbone"] = None
        if self.class_name == "VisionTransformer" and scenario.image_size:
            arguments["image_size"] = scenario.image_size
        with blaming(f"building {self.name}", hint="see the message of torchvision above"):
            model: nn.Module = builder(**arguments)
        return model

    def make_inputs(self, model: nn.Module, scenario: Scenario) -> Inputs:
        return make_inputs(model, scenario)


def resolve(model_name: str) -> TorchvisionWorkload:
    """The model that torchvision registers as `model_name`."""
    torchvision = libraries.load("torchvision")
    known = torchvision.models.list_models()
    if model_name.lower() not in known:
        near = did_you_mean(model_name, known, otherwise="torchvision.models.list_models() has the names")
        raise UnknownModel(f"torchvision has no model {model_name!r}", hint=near)
    builder = torchvision.models.get_model_builder(model_name)
    return TorchvisionWorkload(
        name=f"torchvision:{model_name}",
        kind="torchvision",
        class_name=_class_name(builder),
        library=libraries.label(torchvision),
        description="torchvision's model without weights",
        model_name=model_name,
    )


def _class_name(builder: Any) -> str:
    returned = inspect.signature(builder).return_annotation
    return returned if isinstance(returned, str) else getattr(returned, "__name__", str(returned))


def knows(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torchvision.models.")


def make_inputs(model: nn.Module, scenario: Scenario) -> Inputs:
    """Images or clips in the size that the model was made for, and class labels for training."""
    if scenario.seq is not None:
        raise BadOption(f"{type(model).__name__} takes no tokens, so seq means nothing to it", hint="leave seq out")
    package = type(model).__module__.split(".")[2]
    if package == "detection":
        return _detection_inputs(model, scenario)
    if package == "optical_flow":
        raise BadOption(f"{type(model).__name__} takes pairs of frames, which are not guessed", hint=HINT)
    clip = package == "video"
    side, origin = _side(model, scenario, clip=clip)
    shape = (scenario.batch, 3, *([_FRAMES] if clip else []), side, side)
    classes = _classes(model) if package not in ("segmentation",) else 0
    return image_inputs(model, scenario, shape=shape, origin=origin, classes=classes)


def image_inputs(model: nn.Module, scenario: Scenario, *, shape: tuple[int, ...], origin: str, classes: int) -> Inputs:
    """One batch of random pixels as the only argument, with random labels where a classifier is trained."""
    name = next(iter(inspect.signature(model.forward).parameters))
    pixels = tensors.random_features(shape, tensors.float_dtype(model))
    said = [f"{name}: {' × '.join(map(str, shape))} random pixels, size: {origin}"]
    target = None
    if scenario.training and classes:
        target = tensors.random_ids((scenario.batch,), classes)
        said.append(f"labels: {scenario.batch} random classes of {classes}")
    return Inputs(args=(pixels,), target=target, origins={name: origin}, guesses=tuple(said))


def _detection_inputs(model: nn.Module, scenario: Scenario) -> Inputs:
    if scenario.training:
        raise BadOption(f"{type(model).__name__} trains on boxes, which are not guessed", hint=HINT)
    transform: Any = model.transform
    side = scenario.image_size or transform.min_size[0]
    origin = "image_size" if scenario.image_size else "the model's own transform"
    image = (3, side, side)
    images = [tensors.random_features(image, tensors.float_dtype(model)) for _ in range(scenario.batch)]
    said = f"images: {scenario.batch} of 3 × {side} × {side} random pixels, size: {origin}"
    return Inputs(args=(images,), origins={"images": origin}, guesses=(said,))


def _side(model: nn.Module, scenario: Scenario, *, clip: bool) -> tuple[int, str]:
    if scenario.image_size:
        return scenario.image_size, "image_size"
    own = getattr(model, "image_size", None)
    if isinstance(own, int):
        return own, "the model's own image_size"
    name = type(model).__name__
    sizes, default = (_CLIP_SIDES, _CLIP_SIDE) if clip else (_SIDES, _SIDE)
    return sizes.get(name, default), "torchvision's training size"


def _classes(model: nn.Module) -> int:
    """What the last linear or convolutional layer gives."""
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.Linear):
            return module.out_features
        if isinstance(module, nn.Conv2d):
            return module.out_channels
    return 0
