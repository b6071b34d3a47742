"""`path/file.py:factory` and `package.module:factory`: models that the user's own code makes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tonnage.errors import BadOption, SubjectFailed, UnknownModel
from tonnage.scenario import Scenario
from tonnage.workload import guessing, modules, options
from tonnage.workload.failures import blaming
from tonnage.workload.names import did_you_mean
from tonnage.workload.untouched import untouched_generators
from tonnage.workload.workload import Inputs, Workload

_HINT = "run the factory by itself first; the traceback above is its own"


@dataclass(frozen=True, kw_only=True)
class PythonWorkload(Workload):
    """A function or class of the user's that makes a module, or a module and its inputs."""

    factory: Callable[[], Any]
    folder: str = ""
    given: list[Any] = field(default_factory=list, compare=False)
    """The inputs that came with the model built last, if any did."""

    def build(self, scenario: Scenario) -> nn.Module:
        with blaming(f"the factory {self.name}", hint=_HINT), _importing_from(self.folder):
            made = self.factory()
        model, *inputs = made if isinstance(made, tuple) and len(made) == 2 else (made,)
        if not isinstance(model, nn.Module):
            raise SubjectFailed(
                f"the factory {self.name} returned {_kind(made)}, not a torch.nn.Module",
                hint="let it return the module, or (module, inputs)",
            )
        self.given[:] = inputs
        options.set_attention(model, scenario)
        return model

    def make_inputs(self, model: nn.Module, scenario: Scenario) -> Inputs:
        if not self.given:
            return guessing.inputs_for(model, scenario)
        for option in ("seq", "image_size"):
            if getattr(scenario, option) is not None:
                raise BadOption(
                    f"{option} has no effect: the factory {self.name} makes the inputs", hint=f"leave {option} out"
                )
        return Inputs.given(_as_call(self.given[0]))


def _as_call(inputs: Any) -> tuple[Any, Any]:
    """(args, kwargs) of what a factory returned beside its module."""
    match inputs:
        case (list() | tuple(), dict()):
            return inputs[0], inputs[1]
        case Mapping():
            return (), dict(inputs)
        case list() | tuple():
            return inputs, {}
    return (inputs,), {}


def resolve_file(path: str, attribute: str) -> Workload:
    """`attribute` of the Python file at `path`, which is imported."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UnknownModel(f"there is no file {path}", hint="check the path; it is taken from the current folder")
    folder = str(file.resolve().parent)
    name = f"{path}:{attribute}"
    with blaming(f"importing {path}", hint=_HINT), _importing_from(folder), untouched_generators():
        module = _import_file(file.resolve())
    return _resolve(module, attribute, name=name, description=f"made by {attribute} in {path}", folder=folder)


def resolve_module(path: str, attribute: str) -> Workload:
    """`attribute` of the importable module `path`."""
    name, folder = f"{path}:{attribute}", str(Path.cwd())
    with blaming(f"importing {path}", hint=_HINT), _importing_from(folder), untouched_generators():
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise
            raise UnknownModel(
                f"there is no Python module {error.name}", hint="run from the folder that has it, or install it"
            ) from None
    return _resolve(module, attribute, name=name, description=f"made by {attribute} of {path}", folder=folder)


def _import_file(file: Path) -> ModuleType:
    name = f"_tonnage_subject_{file.stem}_{abs(hash(str(file))):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a class's module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """Lets the user's file import its neighbours, as `python file.py` does."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _resolve(module: ModuleType, attribute: str, *, name: str, description: str, folder: str) -> Workload:
    found = _attribute(module, attribute, name)
    if isinstance(found, nn.Module):
        return modules.from_module(found, name=name, description=f"the module {name}")
    if not callable(found):
        raise SubjectFailed(f"{name} is {_kind(found)}", hint="name a function that returns a torch.nn.Module")
    _check_callable(found, name)
    is_class = inspect.isclass(found)
    return PythonWorkload(
        name=name,
        kind="python",
        class_name=found.__name__ if is_class else "",
        library=getattr(found, "__module__", "").partition(".")[0] if not folder else "your own code",
        description=description,
        factory=found,
        folder=folder,
    )


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(found).items() if callable(value) and not n.startswith("_")]
            near = did_you_mean(part, known, otherwise="name a function or a module of that file")
            raise UnknownModel(f"{name.rpartition(':')[0]} has no {attribute!r}", hint=near)
        found = getattr(found, part)
    return found


def _check_callable(factory: Callable[..., Any], name: str) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    if needed:
        raise BadOption(
            f"{name} cannot be called without {', '.join(needed)}",
            hint="name a function that takes no arguments, such as `def build(): return Net(10)`",
        )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return "a tensor"
    return f"a value of type {type(value).__name__}"
