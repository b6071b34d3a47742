"""Where a config.json comes from: a folder, the catalogue, the local hub cache, or the hub."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tonnage.errors import BadFile, UnknownModel
from tonnage.workload import catalogue, libraries
from tonnage.workload.names import did_you_mean

_OTHERWISE = "check the spelling on https://huggingface.co/models, or give a folder with its config.json"
_TIMEOUT = 10.0


@dataclass(frozen=True)
class FoundConfig:
    """The content of a config.json, under the name that was asked for, and where it was found.

    `checked` says that what it leaves to the library is known to be meant so.
    """

    name: str
    data: Mapping[str, Any]
    source: str
    architecture: str | None = None
    checked: bool = False


def read(path: Path, *, name: str) -> FoundConfig:
    """The config at `path`; BadFile unless it is a JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", hint="check the path") from None
    except ValueError as error:
        raise BadFile(f"{path} is not JSON: {error}", hint="give the config.json of a transformers model") from None
    if not isinstance(data, dict):
        raise BadFile(f"{path} holds no JSON object", hint="give the config.json of a transformers model")
    return FoundConfig(name, data, str(path), _architecture(data))


def find(name: str) -> FoundConfig:
    """The config of the hub model `name`, from the nearest place that has it. Weights are never asked for."""
    entry = catalogue.find_entry(name)
    if entry is not None:
        return FoundConfig(name, entry.config, "tonnage's catalogue", entry.architecture, checked=True)
    return read(_hub_file(name), name=name)


def _architecture(data: Mapping[str, Any]) -> str | None:
    names = data.get("architectures") or [None]
    return str(names[0]) if names[0] else None


def _hub_file(name: str) -> Path:
    hub = libraries.load("huggingface_hub")
    cached = hub.try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    errors = hub.errors
    try:
        _ask_once(hub, name)
        return Path(hub.hf_hub_download(name, "config.json", etag_timeout=_TIMEOUT))
    except errors.GatedRepoError:
        raise UnknownModel(
            f"{name} is gated: the hub does not show its config without a login",
            hint="run `hf auth login`, or give a folder with its config.json",
        ) from None
    except errors.RepositoryNotFoundError:
        raise UnknownModel(f"the hub has no model {name!r}", hint=hint_for(name)) from None
    except errors.LocalEntryNotFoundError:
        raise _offline(name) from None
    except errors.EntryNotFoundError:
        raise UnknownModel(
            f"{name} has no config.json on the hub, so it is no transformers model", hint=hint_for(name)
        ) from None
    except (OSError, errors.HfHubHTTPError) as error:
        raise _offline(name) from error


def _ask_once(hub: Any, name: str) -> None:
    """Returns if the hub has the file. The download would ask six times, over half a minute, where nobody answers."""
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(name, "config.json"), timeout=_TIMEOUT)
    except (hub.errors.HfHubHTTPError, hub.errors.EntryNotFoundError):
        raise
    except Exception as error:  # of whichever HTTP client this huggingface_hub uses: requests, httpx, httpx2
        raise _offline(name) from error


def _offline(name: str) -> UnknownModel:
    return UnknownModel(
        f"{name!r} is not in the catalogue nor in the local hub cache, and the hub cannot be reached",
        hint=hint_for(name, otherwise="go online once, or give a folder with its config.json"),
    )


def hint_for(name: str, *, otherwise: str = _OTHERWISE) -> str:
    """The names nearest to `name`: of the catalogue, and of installed libraries of image models."""
    return did_you_mean(name, [*catalogue.names(), *_registered(name)], otherwise=otherwise)


def _registered(name: str) -> list[str]:
    if "/" in name:
        return []
    found = []
    if importlib.util.find_spec("torchvision") is not None:
        found += [f"torchvision:{model}" for model in libraries.load("torchvision").models.list_models()]
    if importlib.util.find_spec("timm") is not None and libraries.load("timm").is_model(name):
        found.append(f"timm:{name}")
    return found
