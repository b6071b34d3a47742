"""A config of transformers: its fields, those of its parts, and the elements of its lists."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from tonnage.scenario import Scenario
from tonnage.workload.transformers import TransformersWorkload
from tonnage.workload.variation.value import Changes, Impossible, Variation, quietly

_ELEMENT = re.compile(r"(?P<name>\w+)\[(?P<index>\d+)\]")
_NUMBERS = re.compile(r"(_ids?|_index|_indices|_indexes|_tokens)(\[\d+\])?$")
"""Names of tokens and layers by their number: none of them is a size."""
_LAYERS = re.compile(r"layer|depth|block")
"""In the names of numbers of layers; the lists with an entry for each layer are as long as these say."""
_MEANINGLESS = ("id2label", "label2id", "transformers_version", "_name_or_path", "architectures", "model_type")


class ConfigVariation(Variation):
    """A config by what its author wrote down; everything else the config's class may fill in anew."""

    def __init__(self, workload: TransformersWorkload) -> None:
        self.workload = workload
        self._given = _given(workload)
        full = _full(workload.config)
        given = dict(_sizes(self._given, full))
        self.fields = given | {name: size for name, size in _sizes(full, full) if name not in given}
        self.following = {}
        self.aliases = dict(type(workload.config).attribute_map)
        self.settings = {name: value for name, value in _flat(full) if name not in self.fields}
        self._find_following()

    def construct(self, changes: Changes) -> nn.Module:
        own_head = self.workload.own_head and not changes.get("tie_word_embeddings", False)
        return replace(self.workload, config=self._config(changes), own_head=own_head).build(Scenario())

    def follow(self, changes: Changes) -> Mapping[str, int]:
        found = dict(_sizes_of(self._config_or_impossible(changes)))
        return {name: found.get(name, 0) for name in self.following}

    def _find_following(self) -> None:
        """A size that nobody wrote down and that changes when another one does follows from it."""
        given = dict(_sizes(self._given, _full(self.workload.config)))
        free = [name for name in self.fields if name not in given]
        for name, size in given.items():
            try:
                changed = dict(_sizes_of(self._config_or_impossible({name: 2 * size})))
            except Impossible:
                continue
            for other in free:
                if changed.get(other, self.fields[other]) != self.fields[other] and self._takes(other):
                    self.following = {**self.following, other: self.fields[other]}
        self.fields = {name: size for name, size in self.fields.items() if name not in self.following}

    def _takes(self, name: str) -> bool:
        """Whether the config's class keeps `name` as it is given."""
        wanted = 2 * self.fields[name]
        try:
            return dict(_sizes_of(self._config_or_impossible({name: wanted}))).get(name) == wanted
        except Impossible:
            return False

    def _config_or_impossible(self, changes: Changes) -> Any:
        try:
            with quietly():
                return self._config(changes)
        except Exception as error:  # configs check themselves, each in its own way
            raise Impossible.of(error) from None

    def _config(self, changes: Changes) -> Any:
        data = copy.deepcopy(self._given)
        for name, value in changes.items():
            _put(data, name, value, _lookup(self.workload.config, name))
        return type(self.workload.config)(**data)  # from_dict would print it for a log that nobody reads


def from_config(workload: TransformersWorkload) -> ConfigVariation:
    return ConfigVariation(workload)


def _full(config: Any) -> dict[str, Any]:
    """Everything that the config says, sizes that it only answers for (num_labels) included."""
    full = config.to_dict()
    if "id2label" in full and isinstance(getattr(config, "num_labels", None), int):
        full["num_labels"] = config.num_labels
    return {name: value for name, value in full.items() if name not in _MEANINGLESS}


def _given(workload: TransformersWorkload) -> dict[str, Any]:
    """What the author of the config wrote: its file where there is one, else the least that gives the same config."""
    config = workload.config
    if workload.data is not None:
        aliases = type(config).attribute_map
        return {aliases.get(name, name): copy.deepcopy(value) for name, value in workload.data.items()}
    full = _full(config)
    least = {name: value for name, value in full.items() if value is not None}
    for name in list(least):
        tried = {other: value for other, value in least.items() if other != name}
        if _same(type(config), tried, full):
            least = tried
    return least


def _same(kind: Any, data: Mapping[str, Any], full: Mapping[str, Any]) -> bool:
    try:
        return _full(kind.from_dict(copy.deepcopy(dict(data)))) == full
    except Exception:  # configs check themselves, each in its own way
        return False


def _sizes_of(config: Any) -> Iterator[tuple[str, int]]:
    full = _full(config)
    return _sizes(full, full)


def _sizes(data: Mapping[str, Any], full: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The positive whole numbers in `data`, by name; whatever is not in the full config is no field of it."""
    for name, value in _flat(data):
        if type(value) in (int, float) and value >= 1 and value == int(value) and not _NUMBERS.search(name):
            yield name, int(value)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if name in _MEANINGLESS or name.startswith("_"):
            continue
        if isinstance(value, Mapping):
            if "model_type" in value:
                yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and value and all(type(item) in (int, float) for item in value):
            for index, item in enumerate(value):
                yield f"{prefix}{name}[{index}]", item
        else:
            yield f"{prefix}{name}", value


def _lookup(config: Any, name: str) -> Any:
    """The value of a field in the unchanged config: what its list is filled from, and its type."""
    *parts, last = name.split(".")
    for part in parts:
        config = getattr(config, part)
    match = _ELEMENT.fullmatch(last)
    return getattr(config, match["name"] if match else last, None)


def _put(data: dict[str, Any], name: str, value: Any, before: Any) -> None:
    *parts, last = name.split(".")
    for part in parts:
        data = data.setdefault(part, {})
    match = _ELEMENT.fullmatch(last)
    if match:
        items = list(data.get(match["name"], before))
        items[int(match["index"])] = type(items[int(match["index"])])(value)
        data[match["name"]] = items
    else:
        if _LAYERS.search(last):
            _stretch_lists(data, before, value)
        data[last] = float(value) if isinstance(before, float) else value


def _stretch_lists(data: dict[str, Any], before: Any, value: Any) -> None:
    """A list with an entry for each layer gets as many as there are layers now, its own over and over."""
    for name, items in data.items():
        layers = _layers(items)
        if layers and len(layers) == before:
            stretched = [layers[index % len(layers)] for index in range(value)]
            data[name] = stretched if layers == items else [[[kind], 1] for kind in stretched]


def _layers(items: Any) -> list[str]:
    """The kind of each layer: a list of names, or of names with how often they come, such as [[["a", "b"], 6]]."""
    match items:
        case [str(), *_]:
            return list(items)
        case [[[str(), *_], int()], *_]:
            return [kind for kinds, times in items for _ in range(times) for kind in kinds]
    return []
