"""Optional libraries: imported when a subject names them, never before."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import torch

from tonnage.errors import MissingLibrary
from tonnage.workload.failures import blaming

# The two operators whose absence stops torchvision's import (torchvision/_meta_registrations.py registers a fake
# for them unconditionally; all others it guards by extension._has_ops()).
_UNGUARDED = ("nms", "qnms")
_RECORDED = ("torch", "transformers", "torchvision", "timm", "peft", "diffusers", "accelerate")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def load(name: str) -> Any:
    """The library `name`, imported; MissingLibrary if it is not installed."""
    if importlib.util.find_spec(name) is None:
        raise MissingLibrary(f"this model needs {name}, which is not installed", hint=f"pip install 'tonnage[{name}]'")
    with blaming(f"importing {name}", hint=f"install versions that fit torch {torch.__version__}"):
        if name in ("torchvision", "timm", "transformers") and importlib.util.find_spec("torchvision") is not None:
            _load_torchvision()  # the other two import it where it is installed
        return importlib.import_module(name)


def label(library: ModuleType) -> str:
    """Name and version, such as "timm 1.0.31"."""
    return f"{library.__name__} {getattr(library, '__version__', '')}".strip()


def installed() -> dict[str, str]:
    """The versions of the libraries that models are made of, where they are installed."""
    return {name: found for name in _RECORDED if (found := _version_of(name)) is not None}


@cache
def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _load_torchvision() -> None:
    """Imports torchvision, also one built for CUDA beside a CPU torch.

    Such a pair fails on two operators that its binary would have declared. Model definitions need no more than
    their schemas, so these are declared, and only then.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for operator in _UNGUARDED:
            if not torch._C._jit_get_schemas_for_operator(f"torchvision::{operator}"):
                _declarations().define(operator + _SCHEMA)
        importlib.import_module("torchvision")


@cache
def _declarations() -> torch.library.Library:
    return torch.library.Library("torchvision", "FRAGMENT")
