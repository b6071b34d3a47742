"""What `import tonnage` promises is there, and says what it is."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import tonnage

NAMES = [name for name in tonnage.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_loads_and_is_documented(name):
    value = getattr(tonnage, name)
    assert value.__name__ == name
    documented = inspect.getdoc(value) or ""
    # A dataclass or Struct without a docstring of its own gets its signature, or its base's docstring, for one.
    own = value.__dict__.get("__doc__") if inspect.isclass(value) else documented
    assert own and not documented.startswith(f"{name}(")


def test_nothing_else_is_answered():
    with pytest.raises(AttributeError, match="no_such_name"):
        tonnage.no_such_name  # noqa: B018


def test_type_checkers_see_the_same_names():
    """GIVEN the imports under TYPE_CHECKING, THEN they are those that are loaded on first use."""
    body = ast.parse(Path(tonnage.__file__).read_text(encoding="utf-8")).body
    guarded = next(node.body for node in body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in guarded for alias in node.names}
    assert imported == tonnage._HOMES


def test_dir_lists_them():
    assert set(tonnage.__all__) <= set(dir(tonnage))
