"""The optimizers that a training step can be weighed with, by name: PyTorch's, and those of other libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import torch

from tonnage.errors import MissingLibrary
from tonnage.workload.libraries import label, load

LEARNING_RATE = 1e-3
Make = Callable[..., torch.optim.Optimizer]


def make(name: str, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer `name` of `scenario.Optimizer`; MissingLibrary where its library is not installed."""
    return _MAKERS[name](parameters, lr=LEARNING_RATE)


def origin(optimizer: torch.optim.Optimizer) -> str:
    """Whose class an optimizer is, such as "Lion of timm 1.0.31"; "" for PyTorch's own."""
    library = type(optimizer).__module__.partition(".")[0]
    return "" if library == "torch" else f"{type(optimizer).__name__} of {label(importlib.import_module(library))}"


def _momentum(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def _fused(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, fused=True)


def _lion(parameters: Any, lr: float) -> torch.optim.Optimizer:
    """Lion of lion-pytorch, or of timm, which acts on all parameters at once."""
    if importlib.util.find_spec("lion_pytorch") is not None:
        return load("lion_pytorch").Lion(parameters, lr=lr)  # type: ignore[no-any-return]
    if importlib.util.find_spec("timm") is not None:
        load("timm")
        return importlib.import_module("timm.optim").Lion(parameters, lr=lr)  # type: ignore[no-any-return]
    raise MissingLibrary("lion needs lion-pytorch or timm", hint="pip install lion-pytorch")


def _eight_bits(parameters: Any, lr: float) -> torch.optim.Optimizer:
    """States of one byte with a scale for every 256, and fp32 ones for parameters of fewer than 4096 elements."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingLibrary("adamw-8bit needs bitsandbytes", hint="pip install bitsandbytes")
    return load("bitsandbytes").optim.AdamW8bit(parameters, lr=lr)  # type: ignore[no-any-return]


_MAKERS: dict[str, Make] = {
    "sgd": torch.optim.SGD,
    "momentum": _momentum,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamw-fused": _fused,
    "adamw-8bit": _eight_bits,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "radam": torch.optim.RAdam,
    "nadam": torch.optim.NAdam,
    "adamax": torch.optim.Adamax,
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
    "lion": _lion,
}
