"""The small layers between the others: norms, dropout, activations."""

from __future__ import annotations

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.describing import has_bias, sizes
from tonnage.analyses.parts import Model, Part

_ACTIVATIONS = {
    **{
        name: name
        for name in (
            "CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish", "ReLU",
            "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh",
        )
    },
    "GELUActivation": "GELU",
    "NewGELUActivation": "GELU (tanh)",
    "FastGELUActivation": "GELU (tanh)",
    "GELUTanh": "GELU (tanh)",
    "PytorchGELUTanh": "GELU (tanh)",
    "BloomGelu": "GELU (tanh)",
    "QuickGELUActivation": "GELU (sigmoid)",
    "SiLUActivation": "SiLU",
    "MishActivation": "Mish",
}  # fmt: skip
"""Functions of each value alone, by the types that compute them, those of transformers.activations with how."""


def activation_name(part: Part) -> str | None:
    """What a module without weights applies to each value; None where it is no activation."""
    if part.children or part.tensors:
        return None
    if part.type == "GELU" and part.facts.get("approximate") == "tanh":
        return "GELU (tanh)"
    return _ACTIVATIONS.get(part.type)


def activation(part: Part, model: Model) -> Explanation | None:
    name = activation_name(part)
    return said("activation", name=name) if name else None


def dropout(part: Part, model: Model) -> Explanation | None:
    rate = part.facts.get("p")
    if part.children or not isinstance(rate, (int, float)) or not part.type.startswith("Dropout"):
        return None
    return said("dropout", rate=f"{rate:g}") if rate else said("dropout_off")


def norm(part: Part, model: Model) -> Explanation | None:
    """Layer, RMS, batch and group norm, by what they hold."""
    if part.children or "Norm" not in part.type:
        return None
    weight = part.tensor("weight")
    if "BatchNorm" in part.type:
        return _batch_norm(part)
    if "num_groups" in part.facts and "num_channels" in part.facts:
        groups, channels = part.facts["num_groups"], part.facts["num_channels"]
        counted = {"parameters": part.own_parameters}
        if channels % groups or part.own_parameters != 2 * channels:
            return None
        return said("group_norm", groups=groups, channels=channels, each=channels // groups, **counted)
    if "RMSNorm" in part.type or part.type.endswith("T5LayerNorm"):
        if weight is None or len(part.tensors) != 1 or len(weight.shape) != 1:
            return None
        return said("rms_norm", width=weight.shape[0])
    if "LayerNorm" in part.type and "normalized_shape" in part.facts:
        return _layer_norm(part)
    return None


def _layer_norm(part: Part) -> Explanation:
    shape = part.facts["normalized_shape"]
    width = sizes(shape) if isinstance(shape, tuple) else str(shape)
    if part.tensor("weight") is None:
        return said("layer_norm_plain", width=width)
    if not has_bias(part):
        return said("layer_norm_no_bias", width=width)
    return said("layer_norm", width=width, parameters=part.own_parameters)


def _batch_norm(part: Part) -> Explanation | None:
    mean = part.tensor("running_mean")
    if mean is None or len(mean.shape) != 1:
        return None
    channels = mean.shape[0]
    if part.own_parameters == 2 * channels:
        return said("batch_norm", channels=channels, parameters=2 * channels)
    return said("batch_norm_frozen", channels=channels) if part.own_parameters == 0 else None
