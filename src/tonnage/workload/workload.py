"""The two values of this room: a Workload (what makes a model and its inputs) and its Inputs."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from tonnage.errors import BadOption
from tonnage.scenario import Scenario

GIVEN = "given"


class InputSpec(NamedTuple):
    """One tensor that the model was called with, and what decided its shape."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model is called with: `model(*args, **kwargs)`.

    `target` are class labels for the loss, which the model does not see. `origins` says by name what decided the
    shape of an input ("config.image_size"); what is not named there was given by the user. `guesses` are
    sentences about everything that nobody gave.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: torch.Tensor | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()

    @classmethod
    def given(cls, inputs: Any) -> Inputs:
        """The user's own (args, kwargs)."""
        match inputs:
            case (list() | tuple() as args, dict() as kwargs):
                return cls(args=tuple(args), kwargs=kwargs)
        raise BadOption(
            f"inputs must be a pair (args, kwargs), not {type(inputs).__name__}",
            hint="to call model(x, mask=m) give inputs=((x,), {'mask': m})",
        )

    def specs(self, model: nn.Module) -> tuple[InputSpec, ...]:
        """Every tensor among the inputs, under the name that the model's forward gives it."""
        named = zip(_positional_names(model, len(self.args)), self.args, strict=True)
        return tuple(
            InputSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), self._origin(name))
            for root, value in (*named, *self.kwargs.items())
            for name, tensor in _tensors(root, value)
        )

    def _origin(self, name: str) -> str:
        return self.origins.get(name, self.origins.get(name.partition("[")[0], GIVEN))


@dataclass(frozen=True, kw_only=True)
class Workload(ABC):
    """A subject that was found: it builds the model and says what to call it with.

    `kind` is the sort of subject ("module", "transformers", "torchvision", "timm", "python"), `library` the
    package that defines the model, with its version, and `description` where the model comes from.
    """

    name: str
    kind: str
    class_name: str
    library: str
    description: str
    guesses: tuple[str, ...] = ()

    @abstractmethod
    def build(self, scenario: Scenario) -> nn.Module:
        """A new model on the CPU, made by its library's ordinary constructors."""

    @abstractmethod
    def make_inputs(self, model: nn.Module, scenario: Scenario) -> Inputs:
        """Inputs on the CPU that fit `model`, guessed from its signature and config."""


def _positional_names(model: nn.Module, count: int) -> list[str]:
    names = [f"args[{index}]" for index in range(count)]
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return names
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*positional[:count], *names[len(positional) :]]


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(f"{name}[{key}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _tensors(f"{name}[{index}]", item)
