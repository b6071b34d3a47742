"""Well-known hub models and their configs, so that their names work offline.

`find_entry("bert-base-uncased").config` is what the model's config.json says, as far as it decides the structure or
the memory of the model; `docs/models.md` lists every entry with the figure that its parameter count was held
against. The entries are in `data/models`, one file per family. Neither torch nor transformers is needed to read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One hub model.

    `architecture` is the class of transformers to build: the one that the checkpoint is published for, and for a
    text encoder the encoder without a head, which is what its name alone commonly means. `parameters` counts each
    shared weight once. `published` starts with the figure that the outside world gives ("109,482,240: ...", "82M: ...";
    "41,302,368 + 222,400: ..." where that source leaves something out, and says what); `exact` says whether that
    figure is meant to the last digit or is rounded.
    """

    name: str
    aliases: tuple[str, ...]
    architecture: str
    config: Mapping[str, Any]
    parameters: int
    published: str
    exact: bool


def find_entry(name: str) -> Entry | None:
    """The entry of a hub model, or None. Its config is the caller's own copy.

    Upper and lower case do not matter, and the organisation may be left out: "llama-3.1-8b" is
    "meta-llama/Llama-3.1-8B".
    """
    entry = _index().get(name.casefold())
    return entry and replace(entry, config=deepcopy(entry.config))


def all_entries() -> tuple[Entry, ...]:
    """Every entry, family by family."""
    return tuple(entry for _, entries in families() for entry in entries)


def names() -> tuple[str, ...]:
    """Every name and alias that `find_entry` knows, as people write them."""
    return tuple(name for entry in all_entries() for name in (entry.name, *entry.aliases))


@cache
def families() -> tuple[tuple[str, tuple[Entry, ...]], ...]:
    """The families in the order of their names, each with its entries."""
    folder = files("tonnage") / "data" / "models"
    found = (json.loads(path.read_text("utf-8")) for path in folder.iterdir() if path.name.endswith(".json"))
    return tuple(sorted((family["family"], tuple(map(_entry, family["models"]))) for family in found))


def _entry(data: dict[str, Any]) -> Entry:
    return Entry(**{**data, "aliases": tuple(data["aliases"])})


@cache
def _index() -> dict[str, Entry]:
    return {spelling: entry for entry in all_entries() for spelling in _spellings(entry)}


def _spellings(entry: Entry) -> Iterator[str]:
    for name in (entry.name, *entry.aliases):
        yield name.casefold()
        yield name.rpartition("/")[2].casefold()
