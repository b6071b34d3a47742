"""What is minimised in training, where the model does not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from tonnage.errors import SubjectFailed


class Loss(NamedTuple):
    """A scalar to call backward on, the class labels it was made with, and what it is, in words."""

    value: torch.Tensor
    target: torch.Tensor | None
    said: str


def loss_of(outputs: Any, target: torch.Tensor | None, batch: int) -> Loss:
    """The loss of `outputs`.

    The model's own where it returned one; cross-entropy with `target`, or with random labels, where it returned
    one row of scores for each sample; the mean of its first floating output otherwise.
    """
    own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(own, torch.Tensor):
        return Loss(own, target, "the model's own")
    scores = outputs if isinstance(outputs, torch.Tensor) else None
    if scores is not None and _is_scores(scores, batch):
        labels = _random_labels(scores) if target is None else target
        return Loss(functional.cross_entropy(scores, labels), labels, "cross-entropy with random class labels")
    for name, tensor in _floating(outputs, ""):
        if tensor.ndim == 0:
            return Loss(tensor, target, f"{name or 'the scalar'} that the model returned")
        return Loss(tensor.float().mean(), target, f"mean of {name or 'the output'}, for lack of a loss")
    raise SubjectFailed(
        f"the model returned {type(outputs).__name__} without a floating tensor, so there is nothing to train",
        hint="let forward return a tensor, or weigh mode='inference'",
    )


def _is_scores(outputs: torch.Tensor, batch: int) -> bool:
    return outputs.is_floating_point() and outputs.ndim == 2 and outputs.shape[0] == batch and outputs.shape[1] > 1


def _random_labels(scores: torch.Tensor) -> torch.Tensor:
    return torch.randint(scores.shape[1], (scores.shape[0],), device="cpu").to(scores.device)


def _floating(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The floating tensors in `value`, in order, under names such as "logits" or "[0]"."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _floating(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _floating(item, f"{name}[{index}]")
    elif is_dataclass(value):
        for field in fields(value):
            yield from _floating(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
