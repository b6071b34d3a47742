"""Constructors and factories: their whole-number arguments are the sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import torch
from torch import nn

from tonnage.scenario import Scenario
from tonnage.workload.modules import ModuleWorkload
from tonnage.workload.python import PythonWorkload
from tonnage.workload.variation.value import Changes, Variation
from tonnage.workload.workload import Workload


class CallVariation(Variation):
    """A call that makes the model, by its keyword arguments; list arguments by their elements.

    `arguments` are all of them; `function` is called with those that are changed.
    """

    def __init__(self, function: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> None:
        self._function = function
        self._arguments = dict(arguments)
        self.following = {}
        flat = dict(_flat(self._arguments))
        self.fields = {name: int(value) for name, value in flat.items() if _is_size(value)}
        self.settings = {name: value for name, value in flat.items() if name not in self.fields}

    def construct(self, changes: Changes) -> nn.Module:
        arguments: dict[str, Any] = {}
        for name, value in changes.items():
            root, _, index = name.rstrip("]").partition("[")
            before = arguments.get(root, self._arguments[root])
            if index:
                items = list(before)
                items[int(index)] = type(items[int(index)])(value)
                arguments[root] = type(before)(items)
            else:
                arguments[root] = float(value) if isinstance(before, float) else value
        return self._function(**arguments)


def from_factory(workload: PythonWorkload) -> CallVariation | None:
    """A factory of the user's by its keywords."""

    def make(**arguments: Any) -> nn.Module:
        return replace(workload, factory=partial(workload.factory, **arguments)).build(Scenario())

    return _of_sizes(make, _defaults(workload.factory))


def from_builder(workload: Workload) -> CallVariation | None:
    """A registered model, by what its builder passes to the class of the model."""
    with torch.device("meta"):
        kind = type(workload.build(Scenario()))
        with _passing(kind, {}) as calls:
            workload.build(Scenario())

    def make(**arguments: Any) -> nn.Module:
        with _passing(kind, arguments):
            return workload.build(Scenario())

    if not calls:
        return None
    shares = any(isinstance(value, nn.Module) for value in calls[0].values())  # then the class needs the builder
    return _of_sizes(make if shares else partial(kind, **calls[0]), calls[0])


def from_module(workload: Workload) -> CallVariation | None:
    """A module of torch.nn, by what its attributes still say of the arguments it was made with."""
    if not isinstance(workload, ModuleWorkload) or not type(workload.module).__module__.startswith("torch.nn.modules."):
        return None
    arguments = _recovered(workload.module)
    required = {p.name for p in _parameters(type(workload.module)) if p.default is p.empty}
    return _of_sizes(partial(type(workload.module), **arguments), arguments) if required <= arguments.keys() else None


def _of_sizes(function: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> CallVariation | None:
    variation = CallVariation(function, arguments)
    return variation if variation.fields else None


@contextmanager
def _passing(kind: type[nn.Module], changed: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """A block in which the first `kind` that is made gets these arguments in place of its own.

    The list has the arguments, defaults included, that each was made with. What else a builder passes (stages, norm
    layers) it makes anew, so nothing is shared with a model that was built before.
    """
    calls: list[dict[str, Any]] = []
    construct = kind.__init__
    signature = inspect.signature(construct)

    @wraps(construct)
    def passing(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(module, *args, **kwargs)
        bound.apply_defaults()
        calls.append(_named(signature, bound.arguments))
        if len(calls) > 1 or not changed:
            construct(module, *args, **kwargs)
        else:
            construct(module, **{**calls[0], **changed})

    inherited = "__init__" not in vars(kind)
    kind.__init__ = passing  # type: ignore[method-assign, assignment]
    try:
        yield calls
    finally:
        if inherited:
            del kind.__init__
        else:
            kind.__init__ = construct  # type: ignore[method-assign]


def _named(signature: inspect.Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by keyword, without the module itself."""
    names = list(signature.parameters)[1:]
    named: dict[str, Any] = {}
    for name in names:
        match signature.parameters[name].kind:
            case inspect.Parameter.VAR_KEYWORD:
                named.update(arguments[name])
            case inspect.Parameter.VAR_POSITIONAL:
                pass
            case _:
                named[name] = arguments[name]
    return named


def _recovered(module: nn.Module) -> dict[str, Any]:
    """Constructor arguments that a module of torch.nn keeps, under their own names or where its parts have them."""
    facts = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    if not isinstance(facts.get("bias"), bool):  # most keep the tensor and not the switch
        facts["bias"] = any(name.endswith("bias") for name, _ in module.named_parameters())
    match module:
        case nn.TransformerEncoderLayer() | nn.TransformerDecoderLayer():
            attention, first = module.self_attn, module.linear1
            facts |= {"d_model": attention.embed_dim, "nhead": attention.num_heads}
            facts |= {"dim_feedforward": first.out_features, "bias": first.bias is not None}
        case nn.MultiheadAttention() if module.kdim == module.vdim == module.embed_dim:
            del facts["kdim"], facts["vdim"]  # they follow embed_dim unless they are given
        case nn.LSTM():
            return {name: facts[name] for name in (*_RECURRENT, "proj_size")}
        case nn.GRU():
            return {name: facts[name] for name in _RECURRENT}
        case nn.RNN():
            return {name: facts[name] for name in (*_RECURRENT, "nonlinearity")}
    return {p.name: facts[p.name] for p in _parameters(type(module)) if p.name in facts}


_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
"""LSTM, GRU and RNN hand their arguments on, so their signatures do not name them."""


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in inspect.signature(function).parameters.values() if p.kind not in variadic]


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {p.name: p.default for p in _parameters(function) if p.default is not p.empty}


def _is_size(value: object) -> bool:
    return type(value) in (int, float) and value >= 1 and value == int(value)  # type: ignore[operator, call-overload]


def _flat(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        if isinstance(value, (list, tuple)) and value and all(type(item) in (int, float) for item in value):
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
        else:
            yield name, value
