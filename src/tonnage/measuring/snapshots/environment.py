"""The environment of a snapshot: the settings of its allocator, and that PyTorch does not say which card it is of."""

from __future__ import annotations

from typing import Any

import msgspec

from tonnage.allocator import Settings
from tonnage.errors import BadFile, BadOption
from tonnage.recording import Environment
from tonnage.units import MiB

UNKNOWN = "unknown"
"""The libraries and the card of a snapshot, which says neither."""

OURS = "tonnage"
"""Where a snapshot of ours keeps its environment; the viewer passes it over."""

_TEXT = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def environment_of(device: int, alloc_conf: str) -> Environment:
    """An environment without a card: its sizes are 0 because a snapshot does not tell them."""
    return Environment(
        device=f"CUDA device {device}, {UNKNOWN} card",
        compute_capability=(0, 0),
        sm_count=0,
        total_memory=0,
        context_bytes=0,
        context_bytes_low=0,
        context_bytes_high=0,
        torch_rules=UNKNOWN,
        torch_running=UNKNOWN,
        python=UNKNOWN,
        alloc_conf=alloc_conf,
        measured=True,
    )


def environment_in(value: dict[str, Any], *, name: str) -> Environment | None:
    """The environment that `tonnage export` wrote into the snapshot `value`; None where PyTorch wrote it."""
    if OURS not in value:
        return None
    try:
        return msgspec.convert(value[OURS], Environment)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadFile(f"{name} is damaged: {error}", hint="export it again") from None


def settings_of(settings: dict[str, Any]) -> tuple[str, list[str]]:
    """The allocator's settings as PYTORCH_CUDA_ALLOC_CONF writes them, and what of them cannot be followed.

    A program may set them without that text, so what it leaves out is taken from the single values.
    """
    text = next((settings[key] for key in _TEXT if isinstance(settings.get(key), str)), "")
    found = text or ",".join(_single(settings))
    try:
        Settings.parse(found)
    except BadOption as error:
        return "", [f"allocator settings {found!r} are not followed: {error.message}"]
    return found, []


def _single(settings: dict[str, Any]) -> list[str]:
    found = []
    if settings.get("expandable_segments") is True:
        found.append("expandable_segments:True")
    split = settings.get("max_split_size")
    if isinstance(split, int) and 0 < split < _NO_LIMIT:
        found.append(f"max_split_size_mb:{split // MiB}")
    threshold = settings.get("garbage_collection_threshold")
    if isinstance(threshold, float) and threshold > 0:
        found.append(f"garbage_collection_threshold:{threshold}")
    return found


_NO_LIMIT = 2**63 - 1
"""No limit is the largest size_t: 2**64 - 1, or -1 where it is written as an int64."""
