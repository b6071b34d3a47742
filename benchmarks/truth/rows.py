"""One published measurement, and what the virtual GPU says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tonnage.virtual.gpu import VirtualGpu

PUBLISHED = Path(__file__).parents[2] / "tests" / "truth" / "published"

TIERS = ("allocated", "reserved", "process")
"""What PyTorch's allocator handed out, what it took from the driver, and what nvidia-smi shows of the process."""

_TIER_OF = (("max_memory_reserved", "reserved"), ("nvidia-smi", "process"), ("NVML", "process"))


@dataclass(frozen=True)
class Row:
    """A row of `tests/truth/published`, as it stands there: what was run, where, and what was read off."""

    fields: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def group(self) -> str:
        return str(self.fields["group"])

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def measured(self) -> dict[str, int]:
        """Bytes by tier; a row may give more than one."""
        found: dict[str, int] = {}
        if self["value_bytes"] is not None:
            found[self.tier] = self["value_bytes"]
        if "max_reserved_bytes" in self.fields:
            found["reserved"] = self["max_reserved_bytes"]
            if "context_bytes" in self.fields:
                found["process"] = self["max_reserved_bytes"] + self["context_bytes"]
        return found

    @property
    def tier(self) -> str:
        return next((tier for words, tier in _TIER_OF if words in self["metric"]), "allocated")


@cache
def rows_of(group: str) -> list[Row]:
    """The rows of a group; what was measured twice has "-again" behind the second row's id."""
    lines = (PUBLISHED / f"{group}.jsonl").read_text(encoding="utf-8").splitlines()
    rows: dict[str, Row] = {}
    for fields in map(json.loads, lines):
        name = fields["id"]
        while name in rows:
            name += "-again"
        rows[name] = Row({**fields, "id": name})
    return list(rows.values())


class NotRun(Exception):
    """The virtual GPU cannot be asked this row; the message says why, in a sentence for the page."""


@dataclass(frozen=True)
class Predicted:
    """Bytes by tier, whose rules were followed on which card, and what the recording said was missing or assumed.

    Where a row is no number of bytes, `answer` is what the virtual GPU says, and `right` whether the row says so too.
    """

    figures: dict[str, int]
    card: str
    torch: str
    flags: list[str] = field(default_factory=list)
    answer: str = ""
    right: bool | None = None


def predicted(gpu: VirtualGpu, **figures: int) -> Predicted:
    """What `gpu` answered, as a script read it off: `predicted(gpu, allocated=torch.cuda.max_memory_allocated())`."""
    recording = gpu.recording
    said = [*(f"not counted: {m.what}" for m in recording.not_counted), *(a.what for a in recording.assumptions)]
    return Predicted(figures, recording.environment.device, recording.environment.torch_rules, sorted(set(said)))
