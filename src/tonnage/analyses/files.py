"""Files that people fill in by hand: JSON or YAML, small, and refused with one message where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tonnage.errors import BadFile, MissingLibrary

MOST_BYTES = 1 << 18
_KINDS: Mapping[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a decimal number",
    bool: "a yes or no",
}


def text_of(path: Path) -> str:
    """The text of the file at `path`."""
    try:
        data = path.read_bytes()
        if len(data) > MOST_BYTES:
            raise BadFile(
                f"{path} has {len(data):,} bytes; at most {MOST_BYTES:,} are read", hint="is it the right file?"
            )
        return data.decode("utf-8-sig")
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is no UTF-8 text", hint="save it as UTF-8") from error


def loaded(text: str, name: str) -> Any:
    """What `text` holds, as JSON or as YAML; `name` is what messages call it."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass  # {terms: ...} is YAML too, which also says what is wrong
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingLibrary(
            f"{name} is YAML, which needs PyYAML", hint="pip install pyyaml, or write the file as JSON"
        ) from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is nested too deeply or has a value that is none"
        raise BadFile(
            f"{name} is neither JSON nor YAML{where}: {problem}",
            hint="put what starts with a sign, or has a : in it, in quotes",
        ) from error


def require_keys(given: Mapping[Any, object], known: Collection[str], where: str) -> None:
    """`BadFile` if the mapping at `where` has a key that means nothing there."""
    unknown = [str(key) for key in given if key not in known]
    if unknown:
        raise BadFile(f"{where} has `{unknown[0]}`, which means nothing", hint=f"known: {', '.join(sorted(known))}")


def kind_of(value: object) -> str:
    """What `value` is, in words for people who never programmed."""
    return "empty" if value is None else _KINDS.get(type(value), type(value).__name__)
