"""From what the user named to a workload."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from tonnage.errors import BadOption, UnknownModel
from tonnage.workload import configs, modules, python, timm, torchvision, transformers
from tonnage.workload.names import did_you_mean
from tonnage.workload.workload import Workload

_FILE = re.compile(r"(?P<path>.+\.py):(?P<attribute>\w+(\.\w+)*)")
_MODULE = re.compile(r"(?P<path>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<attribute>\w+(\.\w+)*)")
_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_LIBRARIES: dict[str, Callable[[str], Workload]] = {"torchvision": torchvision.resolve, "timm": timm.resolve}
_FORMS = (
    "a subject is a hub name (bert-base-uncased), torchvision:NAME, timm:NAME, a folder with a config.json,"
    " path/file.py:factory or package.module:factory"
)


def resolve(subject: Any, *, trust_remote_code: bool = False) -> Workload:
    """The workload that `subject` names.

    >>> resolve("torchvision:vgg16").class_name
    'VGG'
    >>> resolve(nn.Linear(3, 4)).name
    'Linear'

    A live module, a transformers config, or text: a folder or file with a config, `torchvision:NAME`, `timm:NAME`,
    `path/file.py:factory`, `package.module:factory`, or a hub name. Code that comes with a config is run only if
    `trust_remote_code`; code in a Python file that is named is run. Weights are never read nor fetched.

    Raises UnknownModel where nothing has that name, MissingLibrary where its library is not installed,
    SubjectFailed where what was found makes no model, and BadOption for anything that is no subject.
    """
    if isinstance(subject, nn.Module):
        return modules.from_module(subject)
    if transformers.is_config(subject):
        return transformers.from_config(subject)
    if isinstance(subject, str | os.PathLike):
        return _resolve_text(os.fspath(subject), trust_remote_code=trust_remote_code)
    hint = "call it and give the module" if callable(subject) else _FORMS
    raise BadOption(f"a {type(subject).__name__} is no subject: {subject!r:.80}", hint=hint)


def _resolve_text(text: str, *, trust_remote_code: bool) -> Workload:
    library, _, name = text.partition(":")
    if name and library in _LIBRARIES:
        return _LIBRARIES[library](name)
    if match := _FILE.fullmatch(text):
        return python.resolve_file(match["path"], match["attribute"])
    if match := _MODULE.fullmatch(text):
        return python.resolve_module(match["path"], match["attribute"])
    found = _find_config(text)
    return transformers.from_found(found, trust_remote_code=trust_remote_code)


def _find_config(text: str) -> configs.FoundConfig:
    path = Path(text).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return configs.read(path / "config.json", name=text)
    if path.is_file() and path.suffix == ".json":
        return configs.read(path, name=text)
    if path.suffix == ".py":
        raise BadOption(f"{text} names no function of that file", hint=f"name one: {text}:build")
    if _HUB.fullmatch(text) and path.suffix != ".json" and not path.is_file():
        return _find_on_hub(text, path)
    raise _no_subject(text, path)


def _find_on_hub(text: str, path: Path) -> configs.FoundConfig:
    try:
        return configs.find(text)
    except UnknownModel:
        if path.is_dir():
            raise _no_subject(text, path) from None
        raise


def _no_subject(text: str, path: Path) -> UnknownModel | BadOption:
    if text and path.is_dir():
        return UnknownModel(f"the folder {text} has no config.json", hint="name a folder that has one")
    if path.is_file():
        return BadOption(f"{text} is not a config nor a Python file", hint=_FORMS)
    if "/" in text or path.suffix == ".json":
        return UnknownModel(f"there is no file or folder {text}", hint="check the path; " + _FORMS)
    prefix = text.partition(":")[0]
    return BadOption(f"{text!r} names no subject", hint=did_you_mean(prefix, _LIBRARIES, otherwise=_FORMS))
