"""Which hooks of a live module its copy gets.

Kept: callable objects that the copy can own (the old `weight_norm` and `spectral_norm`, pruning) and methods of
modules that are copied too. Left out and listed: functions, and methods of anything else, because what they do
outside of the module could not be undone. Hooks on state dicts never run here and are left out in silence.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from torch import nn

_RUNNING = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
}
_IDLE = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
TABLES = frozenset((*_RUNNING, *_IDLE))
"""The attributes of a module that hold hooks by number."""


Tables = list[tuple[dict[int, Any], dict[int, Any]]]


def prepare(modules: list[nn.Module], memo: dict[int, Any]) -> Tables:
    """Puts an empty table into `memo` for each table of hooks; gives them back with the hooks that they are to have."""
    copied = {id(module) for module in modules}
    tables: Tables = []
    for module in modules:
        for name in TABLES & vars(module).keys():
            hooks = vars(module)[name]
            memo[id(hooks)] = table = OrderedDict[int, Any]()
            if name in _RUNNING:
                tables.append((table, {n: hook for n, hook in hooks.items() if _is_ownable(hook, copied)}))
    return tables


def fill(tables: Tables, memo: dict[int, Any]) -> None:
    """Copies the hooks into their tables, once the modules are copied that they may belong to."""
    for table, chosen in tables:
        table.update({number: copy.deepcopy(hook, memo) for number, hook in chosen.items()})


def left_out(root: nn.Module, modules: list[nn.Module]) -> Iterator[str]:
    """One sentence for each hook that a copy of `root` will not run."""
    copied = {id(module) for module in modules}
    paths = {id(module): path or "the model" for path, module in root.named_modules()}
    for module in modules:
        for name, kind in _RUNNING.items():
            for hook in vars(module).get(name, {}).values():
                if not _is_ownable(hook, copied):
                    yield f"{kind} {_name(hook)} of {paths.get(id(module), type(module).__name__)} not run"
    yield from _gradient_hooks(root)


def _is_ownable(hook: Any, copied: set[int]) -> bool:
    if isinstance(hook, MethodType):
        return id(hook.__self__) in copied
    return not isinstance(hook, FunctionType | BuiltinFunctionType | partial)


def _gradient_hooks(root: nn.Module) -> Iterator[str]:
    for name, parameter in root.named_parameters():
        for table in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            for hook in (getattr(parameter, table, None) or {}).values():
                yield f"gradient hook {_name(hook)} of {name} not run"


def _name(hook: Any) -> str:
    if isinstance(hook, partial):
        return _name(hook.func)
    return getattr(hook, "__qualname__", None) or type(hook).__name__
