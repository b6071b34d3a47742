"""Models of transformers, built from a config. No weights are needed and none are fetched."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tonnage.errors import BadOption, SubjectFailed
from tonnage.scenario import Scenario
from tonnage.workload import libraries, transformers_inputs
from tonnage.workload.configs import FoundConfig
from tonnage.workload.failures import blaming
from tonnage.workload.names import did_you_mean
from tonnage.workload.workload import Inputs, Workload

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_HINT = "compare the config with one of the same model_type that works"


@dataclass(frozen=True, kw_only=True)
class TransformersWorkload(Workload):
    """A config of transformers and the class that is built from it."""

    config: Any
    model_class: Any
    data: Mapping[str, Any] | None = None
    """What the config's file says; None for a live config."""
    own_head: bool = False
    """The config says that the head is not tied to the embedding."""

    def build(self, scenario: Scenario) -> nn.Module:
        config = copy.deepcopy(self.config)
        for part in _parts(config):
            _set_dtype(part, torch.float32)
        options = {"attn_implementation": scenario.attention} if scenario.attention else {}
        with blaming(f"building {self.class_name} from its config", hint=_HINT):
            try:
                model: nn.Module = self.model_class._from_config(config, **options)
            except (ValueError, ImportError) as error:
                if options and "attention" in str(error):
                    raise BadOption(
                        f"{self.class_name} has no attention={scenario.attention!r}: {error}",
                        hint="leave attention out: the library chooses",
                    ) from error
                raise
        if self.own_head:
            _untie(model)
        return model

    def make_inputs(self, model: nn.Module, scenario: Scenario) -> Inputs:
        return transformers_inputs.make(model, scenario)


def is_config(subject: object) -> bool:
    """Whether `subject` is a config object, without importing transformers for the answer."""
    return any(cls.__name__ in ("PretrainedConfig", "PreTrainedConfig") for cls in type(subject).__mro__)


def from_config(config: Any) -> TransformersWorkload:
    """The workload of a live config, which is copied and not changed."""
    names = getattr(config, "architectures", None) or [None]
    name = getattr(config, "name_or_path", "") or type(config).__name__
    return _workload(copy.deepcopy(config), names[0], name=name, source=f"the given {type(config).__name__}")


def from_found(found: FoundConfig, *, trust_remote_code: bool = False) -> TransformersWorkload:
    """The workload of the content of a config.json; SubjectFailed with the library's words if it makes no sense."""
    transformers = libraries.load("transformers")
    model_type = found.data.get("model_type")
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    remote = found.data.get("auto_map")
    if model_type in known:
        with blaming(f"reading the config of {found.name}", hint=_HINT):
            config = known[model_type].from_dict(dict(found.data))
        data = None if found.checked else found.data
        source = found.source + _published_dtype(found.data)
        workload = _workload(config, found.architecture, name=found.name, source=source, data=data)
        return replace(workload, data=found.data, own_head=found.data.get("tie_word_embeddings") is False)
    if remote and trust_remote_code:
        return _remote(found, remote)
    raise _unknown_type(found, transformers, known)


def _published_dtype(data: Mapping[str, Any]) -> str:
    """Said where it is not float32, in which models are built unless another precision is asked for."""
    dtype = data.get("dtype") or data.get("torch_dtype")
    return "" if dtype in (None, "float32", "auto") else f"; its weights are published in {dtype}"


def _unknown_type(found: FoundConfig, transformers: Any, known: Mapping[str, Any]) -> SubjectFailed:
    model_type = found.data.get("model_type")
    if model_type is None:
        return SubjectFailed(
            f"the config of {found.name} ({found.source}) has no model_type, so nothing says what model it is for",
            hint='add it, such as "model_type": "bert"',
        )
    if found.data.get("auto_map"):
        return SubjectFailed(
            f"{found.name} brings its own Python code, and code from elsewhere is not run unasked",
            hint="read that code, then allow it with --trust-remote-code (trust_remote_code=True)",
        )
    return SubjectFailed(
        f"{libraries.label(transformers)} knows no model_type {model_type!r}, which the config of {found.name} names",
        hint=did_you_mean(str(model_type), known.keys(), otherwise="pip install --upgrade transformers"),
    )


def _remote(found: FoundConfig, auto_map: Mapping[str, str]) -> TransformersWorkload:
    """A model whose code comes with its config. Runs that code."""
    transformers = libraries.load("transformers")
    where = found.source.removesuffix("config.json").rstrip("/") or found.name
    with blaming(f"the code that comes with {found.name}", hint="it may need another version of transformers"):
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=True)
        references = [ref for ref in auto_map.values() if ref.rpartition(".")[2] == found.architecture]
        reference = references[0] if references else auto_map["AutoModel"]
        load_class = transformers.dynamic_module_utils.get_class_from_dynamic_module
        model_class = load_class(reference, where)
    return _describe(config, model_class, name=found.name, source=f"{found.source} and its own code", guesses=())


def _workload(
    config: Any, architecture: str | None, *, name: str, source: str, data: Mapping[str, Any] | None = None
) -> TransformersWorkload:
    model_class = _model_class(config, architecture, name)
    guesses = list(_guesses(config, data))
    if architecture is None:
        guesses.append(f"the config names no architecture: {model_class.__name__} taken, a model without a head")
    return _describe(config, model_class, name=name, source=source, guesses=tuple(guesses))


def _describe(
    config: Any, model_class: Any, *, name: str, source: str, guesses: tuple[str, ...]
) -> TransformersWorkload:
    return TransformersWorkload(
        name=name,
        kind="transformers",
        class_name=model_class.__name__,
        library=libraries.label(libraries.load("transformers")),
        description=f"config from {source}",
        guesses=guesses,
        config=config,
        model_class=model_class,
    )


def _model_class(config: Any, architecture: str | None, name: str) -> Any:
    transformers = libraries.load("transformers")
    if architecture is None:
        mapping = transformers.models.auto.modeling_auto.MODEL_MAPPING
        if type(config) not in mapping:
            raise SubjectFailed(
                f"the config of {name} names no architecture, and {type(config).__name__} has no base model",
                hint='add one to the config, such as "architectures": ["BertModel"]',
            )
        found = mapping[type(config)]
        return found[0] if isinstance(found, tuple) else found
    if not hasattr(transformers, architecture):
        raise SubjectFailed(
            f"{libraries.label(transformers)} has no class {architecture!r}, which the config of {name} names",
            hint=did_you_mean(architecture, dir(transformers), otherwise="pip install --upgrade transformers"),
        )
    return getattr(transformers, architecture)


def _guesses(config: Any, data: Mapping[str, Any] | None) -> Iterator[str]:
    if getattr(config, "quantization_config", None):
        yield "quantization_config of the config is not applied: every weight is held in full"
    missing = [size for size in _SIZES if data is not None and _is_default(config, size, data)]
    if missing:
        said = ", ".join(f"{size}={getattr(config, size)}" for size in missing)
        yield f"not in the config, so the library's defaults: {said}"


def _is_default(config: Any, size: str, data: Mapping[str, Any]) -> bool:
    """Whether `size` was left to the library. A config may hold it under its family's own name (n_embd, d_model)."""
    if not isinstance(getattr(config, size, None), int):
        return False
    aliases = [size, type(config).attribute_map.get(size, size)]
    return not any(alias in data for alias in aliases)


def _untie(model: nn.Module) -> None:
    """Parts head and embedding, as loading a checkpoint that stores both does.

    transformers 5 ties the head of T5 1.1, Flan-T5 and mT5 whatever their config says, until it loads one.
    """
    embedding, head = (getattr(model, f"get_{side}_embeddings")() for side in ("input", "output"))
    if head is not None and embedding is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(torch.empty_like(head.weight))


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(type(config), "sub_configs", {}):
        if (part := getattr(config, name, None)) is not None:
            yield from _parts(part)


def _set_dtype(config: Any, dtype: torch.dtype) -> None:
    """Builds in `dtype` whatever the weights were saved in; the attribute was torch_dtype before transformers 4.56."""
    setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", dtype)
