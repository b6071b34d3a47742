"""Convolutions and pooling, with the arithmetic of their output sizes where a run showed their input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.describing import has_bias, per_axis, sizes
from tonnage.analyses.parts import Model, Part

_IMAGE_SIZES = ("img_size", "image_size")


@dataclass(frozen=True)
class Window:
    """What slides along one axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int = 1
    up: bool = False
    """Rounds up where it does not come out even (`ceil_mode`)."""

    def arithmetic(self, size: int) -> tuple[str, int]:
        """How `size` becomes another, and that; as in the documentation of torch.nn.Conv2d and MaxPool2d."""
        reach = f"{self.kernel}" if self.dilation == 1 else f"{self.dilation}*({self.kernel} - 1) - 1"
        span = size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        steps, rest = divmod(span, self.stride)
        padded = f"{size} + 2*{self.padding} - {reach}" if self.padding else f"{size} - {reach}"
        quotient = f"({padded})/{self.stride}"
        if rest:
            quotient = f"{'ceil' if self.up else 'floor'}({quotient})"
        return f"{quotient} + 1", steps + 1 + (1 if rest and self.up else 0)


def convolution(part: Part, model: Model) -> Explanation | None:
    facts, weight = part.facts, part.tensor("weight")
    if part.children or weight is None or not {"in_channels", "kernel_size", "groups"} <= facts.keys():
        return None
    kernel = per_axis(facts["kernel_size"], [0])
    inputs, outputs, groups = facts["in_channels"], facts["out_channels"], facts["groups"]
    size = _transposed_size(part, model, kernel) if facts.get("transposed") else _size(part, model, kernel)
    sort = "transposed_" if facts.get("transposed") else _sort(inputs, outputs, groups)
    numbers: dict[str, int | str] = {
        "kernel": sizes(kernel),
        "inputs": inputs,
        "outputs": outputs,
        "arithmetic": _arithmetic(kernel, inputs, outputs, groups, has_bias(part), bool(facts.get("transposed"))),
        "parameters": prod(weight.shape) + (outputs if has_bias(part) else 0),
    }
    if sort == "grouped_" or (sort == "transposed_" and groups > 1):
        numbers["groups"] = groups
    if sort == "transposed_" and groups > 1:
        return None
    if size is None:
        return said(f"{sort}convolution", **numbers)
    return said(f"{sort}convolution_sized", **numbers, size=size)


def patch_embedding(part: Part, model: Model) -> Explanation | None:
    """A convolution whose windows lie side by side, where something around it says that these are patches."""
    facts, parent = part.facts, model.parent(part)
    if part.children or parent is None or not {"in_channels", "kernel_size", "groups"} <= facts.keys():
        return None
    patch, stride = facts["kernel_size"], facts.get("stride")
    named = "patch" in f"{part.name} {parent.name} {parent.type}".lower() or "patch_size" in parent.facts
    padding = _padding(part)
    plain = facts["groups"] == 1 and not facts.get("transposed") and padding is not None
    if not named or not plain or any(per_axis(padding, patch)) or patch != stride or len(patch) != 2 or max(patch) < 2:
        return None
    numbers: dict[str, int | str] = {
        "patch": sizes(patch),
        "channels": facts["in_channels"],
        "width": facts["out_channels"],
        "arithmetic": _arithmetic(patch, facts["in_channels"], facts["out_channels"], 1, has_bias(part), False),
        "parameters": part.own_parameters,
    }
    image = _image(part, parent, model)
    if image is None or any(side % step for side, step in zip(image, patch, strict=True)):
        return said("patch_embedding", **numbers)
    grid = [side // step for side, step in zip(image, patch, strict=True)]
    return said("patch_embedding_sized", **numbers, image=sizes(image), grid=sizes(grid), patches=prod(grid))


def pooling(part: Part, model: Model) -> Explanation | None:
    facts = part.facts
    if part.children or "Pool" not in part.type:
        return None
    if "output_size" in facts and "Adaptive" in part.type:
        return _adaptive(part)
    sort = next((name for name in ("Max", "Avg") if part.type.startswith(f"{name}Pool")), None)
    if sort is None or "kernel_size" not in facts:
        return None
    kind = "max_pooling" if sort == "Max" else "average_pooling"
    axes = part.type[-2:-1]
    if not axes.isdigit():
        return None
    kernel = per_axis(facts["kernel_size"], [0] * int(axes))
    size = _size(part, model, kernel)
    if size is None:
        return said(kind, kernel=sizes(kernel))
    return said(f"{kind}_sized", kernel=sizes(kernel), size=size)


def _adaptive(part: Part) -> Explanation | None:
    wanted = part.facts["output_size"]
    if wanted is None or (isinstance(wanted, tuple) and None in wanted):
        return None
    if part.type.startswith("AdaptiveAvg"):
        if all(side == 1 for side in per_axis(wanted, [0])):
            return said("global_average_pooling")
        return said("adaptive_average_pooling", size=sizes(per_axis(wanted, [0, 0])))
    return None


def _sort(inputs: int, outputs: int, groups: int) -> str:
    if groups == 1:
        return ""
    return "depthwise_" if groups == inputs and outputs == inputs else "grouped_"


def _arithmetic(kernel: Sequence[int], inputs: int, outputs: int, groups: int, bias: bool, transposed: bool) -> str:
    """The parameters as people count them: (k*k*C_in + 1)*C_out."""
    window = "*".join(map(str, kernel))
    if transposed:
        weights = f"{window}*{inputs}*{outputs}"
        return f"{weights} + {outputs}" if bias else weights
    if groups == inputs and outputs == inputs:
        each = window
    elif groups > 1:
        each = f"{window}*{inputs}/{groups}"
    else:
        each = f"{window}*{inputs}"
    return f"({each} + 1)*{outputs}" if bias else f"{each}*{outputs}"


def _size(part: Part, model: Model, kernel: Sequence[int]) -> str | None:
    """The arithmetic along each axis, equal ones said once; None unless it gives what the run gave."""
    facts = part.facts
    given, made = _axes(model.input_shape(part), kernel), _axes(model.output_shape(part), kernel)
    padding = _padding(part)
    if given is None or made is None or padding is None:
        return None
    stride = facts["stride"] if facts.get("stride") is not None else kernel
    along = [per_axis(value, kernel) for value in (stride, padding, facts.get("dilation", 1))]
    up = bool(facts.get("ceil_mode"))
    windows = [Window(k, step, pad, wide, up) for k, step, pad, wide in zip(kernel, *along, strict=True)]
    return _checked([window.arithmetic(size) for window, size in zip(windows, given, strict=True)], made)


def _transposed_size(part: Part, model: Model, kernel: Sequence[int]) -> str | None:
    """(in - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1 along each axis."""
    facts = part.facts
    given, made = _axes(model.input_shape(part), kernel), _axes(model.output_shape(part), kernel)
    if given is None or made is None or any(d != 1 for d in per_axis(facts.get("dilation", 1), kernel)):
        return None
    along = [per_axis(facts.get(name, 0), kernel) for name in ("stride", "padding", "output_padding")]
    found = []
    for size, k, stride, padding, extra in zip(given, kernel, *along, strict=True):
        text = f"({size} - 1)*{stride}{f' - 2*{padding}' if padding else ''} + {k}{f' + {extra}' if extra else ''}"
        found.append((text, (size - 1) * stride - 2 * padding + k + extra))
    return _checked(found, made)


def _padding(part: Part) -> Any:
    """What is added on each side; None for "same", which may add more on one."""
    padding = part.facts.get("padding", 0)
    return 0 if padding == "valid" else None if isinstance(padding, str) else padding


def _axes(shape: tuple[int, ...] | None, kernel: Sequence[int]) -> tuple[int, ...] | None:
    """The sizes that the window slides along: the last ones, behind channels."""
    return None if shape is None or len(shape) <= len(kernel) else shape[-len(kernel) :]


def _checked(found: Iterable[tuple[str, int]], made: Sequence[int]) -> str | None:
    lines = list(found)
    if [size for _, size in lines] != list(made):
        return None
    return ", ".join(dict.fromkeys(f"{text} = {size}" for text, size in lines))


def _image(part: Part, parent: Part, model: Model) -> tuple[Any, ...] | None:
    shape = model.input_shape(part)
    if shape is not None:
        return _axes(shape, [0, 0])
    value = next((parent.facts[name] for name in _IMAGE_SIZES if parent.facts.get(name)), None)
    return None if value is None else per_axis(value, [0, 0])
