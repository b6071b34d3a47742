"""The files that a recorded card is kept in.

A folder `<card>-torch<version>` has `card.json` (the environment) and for each case `<case>.json.gz`: what the card's
allocator wrote down, and what torch.cuda answered at each mark. Version 1 is the first.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.truth.recorded.cases import Case
from tonnage.measuring.card_history import CardHistory, Figures, Said, history_of
from tonnage.recording import Environment, whole_file

TRUTH = Path(__file__).parents[3] / "tests" / "truth"
VERSION = 1
CARD = "card.json"
SUFFIX = ".json.gz"
DIFFERENCES = "differences.json"
"""Cases of a folder that the virtual GPU is known to do otherwise, each with the reason."""

END = "end"
"""The mark after a case has run and its tensors are gone."""


class KeptEvent(Struct, frozen=True, array_like=True):
    """As in a memory snapshot of PyTorch; `address` counts from the lowest of the case."""

    action: str
    size: int
    address: int
    stream: int = 0


class KeptSegment(Struct, frozen=True, array_like=True):
    """A segment at the end; `blocks` are size, size as asked for, and state."""

    address: int
    size: int
    stream: int
    blocks: list[tuple[int, int, str]]


class KeptMark(Struct, frozen=True):
    """What torch.cuda answered once the allocator had made `position` allocations and frees, in bytes."""

    name: str
    position: int
    allocated: int
    reserved: int
    max_allocated: int
    max_reserved: int
    process: int | None = None


class KeptCase(Struct, frozen=True, kw_only=True):
    """A case that ran on a card; `error` is what it raised."""

    version: int = VERSION
    name: str
    group: str
    config: dict[str, Any]
    marks: list[KeptMark]
    events: list[KeptEvent]
    segments: list[KeptSegment]
    error: str = ""


def kept_case(case: Case, snapshot: dict[str, Any], said: Sequence[Said], *, device: int, error: str = "") -> KeptCase:
    """What is kept of a `case` from the card's own snapshot and what was said meanwhile."""
    trace = [event for event in snapshot["device_traces"][device] if "addr" in event or event["action"] == "oom"]
    segments = [segment for segment in snapshot["segments"] if segment["device"] == device]
    addresses = [event["addr"] for event in trace if event.get("addr")] + [s["address"] for s in segments]
    base = min(addresses, default=0)
    return KeptCase(
        name=case.name,
        group=case.group,
        config=case.config,
        marks=[
            KeptMark(what.mark, what.position, *what.figures, what.process)
            for what in said
            if what.mark is not None and what.figures is not None
        ],
        events=[
            KeptEvent(event["action"], event["size"], max(event.get("addr", 0) - base, 0), event.get("stream", 0))
            for event in trace
        ],
        segments=[
            KeptSegment(
                segment["address"] - base,
                segment["total_size"],
                segment["stream"],
                [(block["size"], block["requested_size"], block["state"]) for block in segment["blocks"]],
            )
            for segment in segments
        ],
        error=error,
    )


def save(kept: KeptCase, folder: Path) -> None:
    """Writes the case's file, whole or not at all; the same case gives the same bytes."""
    with whole_file(file_of(folder, kept.name)) as file:
        file.write(gzip.compress(msgspec.json.encode(kept), 9, mtime=0))


def load(path: Path) -> KeptCase:
    return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=KeptCase)


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def save_card(environment: Environment, folder: Path) -> None:
    with whole_file(folder / CARD) as file:
        file.write(msgspec.json.format(msgspec.json.encode(environment)))


def load_card(folder: Path) -> Environment:
    return msgspec.json.decode((folder / CARD).read_bytes(), type=Environment)


def known_differences(folder: Path) -> dict[str, str]:
    """The reason for each case that the virtual GPU does otherwise."""
    file = folder / DIFFERENCES
    return msgspec.json.decode(file.read_bytes(), type=dict[str, str]) if file.exists() else {}


def names(folder: Path) -> list[str]:
    """The recorded cases of a folder."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def folders(root: Path) -> list[Path]:
    """The folders of recorded cards below `root`."""
    return sorted(path.parent for path in root.glob(f"*-torch*/{CARD}"))


def folder_name(environment: Environment) -> str:
    """The name of a card's folder, such as "nvidia-a100-sxm4-80gb-torch2.13.0"."""
    card = re.sub(r"[^a-z0-9]+", "-", environment.device.lower()).strip("-")
    return f"{card}-torch{environment.torch_rules}"


def default_folder(environment: Environment) -> Path:
    return TRUTH / folder_name(environment)


def is_kept(folder: Path, name: str) -> bool:
    return file_of(folder, name).exists()


def history(kept: KeptCase, environment: Environment) -> CardHistory:
    """The case as a recording, with the card's figures beside it."""
    said = [
        Said(
            mark.position,
            mark=mark.name,
            figures=Figures(mark.allocated, mark.reserved, mark.max_allocated, mark.max_reserved),
            process=mark.process,
        )
        for mark in kept.marks
    ]
    last = max((what.position for what in said if what.mark == END), default=0)
    said.append(Said(last, last=True))
    return history_of(_snapshot(kept), said, environment=environment)


def _snapshot(kept: KeptCase) -> dict[str, Any]:
    """In the shape of torch.cuda.memory._snapshot()."""
    return {
        "device_traces": [
            [
                {"action": event.action, "addr": event.address, "size": event.size, "stream": event.stream}
                for event in kept.events
            ]
        ],
        "segments": [
            {
                "address": segment.address,
                "total_size": segment.size,
                "stream": segment.stream,
                "blocks": [
                    {"size": size, "requested_size": requested, "state": state}
                    for size, requested, state in segment.blocks
                ],
            }
            for segment in kept.segments
        ],
    }
