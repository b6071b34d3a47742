"""Inputs for a module of which nothing is known but its layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tonnage.errors import BadOption
from tonnage.scenario import Scenario
from tonnage.workload import tensors
from tonnage.workload.workload import Inputs

HINT = "pass inputs=(args, kwargs), or name a path/file.py:factory that returns (model, inputs)"
_SEQ = 128
_IMAGE = 224
_FRAMES = 16


@dataclass(frozen=True)
class _Guess:
    """The shape of one input after the first layer that says something about it."""

    shape: tuple[int, ...]
    because: str
    vocabulary: int = 0
    uses: frozenset[str] = frozenset()


def guess(model: nn.Module, scenario: Scenario) -> Inputs:
    """Inputs after the first layer whose weights say what it takes; BadOption where none does."""
    names = _required(model)
    path, found = _first(model, scenario)
    _check_used(model, scenario, found)
    if len(names) > 1 and type(model) not in _SEVERAL:
        raise BadOption(
            f"{type(model).__name__}.forward takes {', '.join(names)}; only a single input can be guessed", hint=HINT
        )
    where = f"{path} ({found.because})" if path else found.because
    values = {name: _make(found, model) for name in names}
    return Inputs(
        args=tuple(values.values()),
        origins=dict.fromkeys(values, where),
        guesses=tuple(f"{name}: {_words(found)}, after {where}" for name in names),
    )


def _make(found: _Guess, model: nn.Module) -> torch.Tensor:
    if found.vocabulary:
        return tensors.random_ids(found.shape, found.vocabulary)
    return tensors.random_features(found.shape, tensors.float_dtype(model))


def _words(found: _Guess) -> str:
    kind = "random ids" if found.vocabulary else "random numbers"
    return f"{' × '.join(map(str, found.shape))} {kind}"


def _required(model: nn.Module) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = [p.name for p in named if p.default is p.empty]
    optional = [p.name for p in parameters if p.name not in required]
    return required or optional[:1]


def _first(model: nn.Module, scenario: Scenario) -> tuple[str, _Guess]:
    for path, module in model.named_modules():
        for kind, rule in _RULES.items():
            if isinstance(module, kind):
                return path, rule(module, model, scenario)
    raise BadOption(f"no layer of {type(model).__name__} says what input it takes", hint=HINT)


def _check_used(model: nn.Module, scenario: Scenario, found: _Guess) -> None:
    for option in ("seq", "image_size"):
        value = getattr(scenario, option)
        if value is not None and option not in found.uses:
            raise BadOption(
                f"{option}={value} means nothing to {type(model).__name__}: it starts with {found.because}",
                hint=f"leave {option} out, or {HINT}",
            )


def _linear(layer: nn.Linear, model: nn.Module, scenario: Scenario) -> _Guess:
    middle = () if scenario.seq is None else (scenario.seq,)
    because = f"Linear({layer.in_features}, {layer.out_features})"
    return _Guess((scenario.batch, *middle, layer.in_features), because, uses=frozenset({"seq"}))


def _embedding(layer: nn.Embedding | nn.EmbeddingBag, model: nn.Module, scenario: Scenario) -> _Guess:
    because = f"{type(layer).__name__}({layer.num_embeddings}, {layer.embedding_dim})"
    shape = (scenario.batch, scenario.seq or _SEQ)
    return _Guess(shape, because, vocabulary=layer.num_embeddings, uses=frozenset({"seq"}))


def _convolution(layer: Any, model: nn.Module, scenario: Scenario) -> _Guess:
    because = f"{type(layer).__name__}({layer.in_channels}, {layer.out_channels})"
    dimensions = len(layer.kernel_size)
    if dimensions == 1:
        shape: tuple[int, ...] = (scenario.seq or _SEQ,)
        uses = "seq"
    else:
        side = scenario.image_size or _own_image_size(model) or _IMAGE
        shape = (side, side) if dimensions == 2 else (_FRAMES, side, side)
        uses = "image_size"
    return _Guess((scenario.batch, layer.in_channels, *shape), because, uses=frozenset({uses}))


def _own_image_size(model: nn.Module) -> int | None:
    for module in model.modules():
        for name in ("image_size", "img_size"):
            size = vars(module).get(name)
            if isinstance(size, tuple) and len(set(size)) == 1:
                size = size[0]
            if isinstance(size, int):
                return size
    return None


def _batch_norm(layer: Any, model: nn.Module, scenario: Scenario) -> _Guess:
    because = f"{type(layer).__name__}({layer.num_features})"
    if isinstance(layer, nn.BatchNorm1d):
        return _Guess((scenario.batch, layer.num_features), because)
    side = scenario.image_size or _IMAGE
    shape = (side, side) if isinstance(layer, nn.BatchNorm2d) else (_FRAMES, side, side)
    return _Guess((scenario.batch, layer.num_features, *shape), because, uses=frozenset({"image_size"}))


def _layer_norm(layer: Any, model: nn.Module, scenario: Scenario) -> _Guess:
    shape = tuple(layer.normalized_shape)
    middle = (scenario.seq or _SEQ,) if len(shape) == 1 else ()
    because = f"{type(layer).__name__}({', '.join(map(str, shape))})"
    return _Guess((scenario.batch, *middle, *shape), because, uses=frozenset({"seq"} if middle else ()))


def _recurrent(layer: nn.RNNBase, model: nn.Module, scenario: Scenario) -> _Guess:
    because = f"{type(layer).__name__}({layer.input_size}, {layer.hidden_size})"
    return _sequence(layer.batch_first, layer.input_size, because, scenario)


def _attention(layer: nn.MultiheadAttention, model: nn.Module, scenario: Scenario) -> _Guess:
    because = f"MultiheadAttention({layer.embed_dim}, {layer.num_heads})"
    return _sequence(layer.batch_first, layer.embed_dim, because, scenario)


def _sequence(batch_first: bool, width: int, because: str, scenario: Scenario) -> _Guess:
    seq = scenario.seq or _SEQ
    shape = (scenario.batch, seq, width) if batch_first else (seq, scenario.batch, width)
    order = "" if batch_first else ", batch second"
    return _Guess(shape, because + order, uses=frozenset({"seq"}))


_RULES: dict[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any, nn.Module, Scenario], _Guess]] = {
    (nn.Embedding, nn.EmbeddingBag): _embedding,
    nn.MultiheadAttention: _attention,  # before Linear: its projections are Linear layers inside it
    nn.RNNBase: _recurrent,
    nn.modules.conv._ConvNd: _convolution,
    nn.Linear: _linear,
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d): _batch_norm,
    (nn.LayerNorm, nn.RMSNorm): _layer_norm,
}
_SEVERAL = (nn.MultiheadAttention, nn.Transformer, nn.TransformerDecoder, nn.TransformerDecoderLayer)
"""Modules of torch whose several required inputs have one shape."""
