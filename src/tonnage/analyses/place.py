"""Where in a run an event of the ledger happened, in the user's words."""

from __future__ import annotations

from msgspec import Struct

from tonnage.ledger import NO_OP, Kind
from tonnage.recording import Recording
from tonnage.trace import PHASES


class Place(Struct, frozen=True, kw_only=True):
    """One event: the operator that made it, its module and phase, and the marks before and after it ("": none)."""

    phase: str
    module: str
    operator: str
    after: str
    before: str

    def __str__(self) -> str:
        parts = [self.phase, self.module, self.operator, _between(self.after, self.before)]
        return ", ".join(part for part in parts if part) or "nothing ran"


def place_of(recording: Recording, event: int) -> Place:
    """The place of event number `event` of the ledger."""
    ledger, trace = recording.ledger, recording.trace
    number = ledger.arguments[event] if ledger.kinds[event] == Kind.ALLOC else NO_OP
    op = ledger.ops[number] if number != NO_OP else NO_OP
    after = before = ""
    for name, position in ledger.mark_positions():
        if position > event:
            before = name
            break
        after = name
    return Place(
        phase=PHASES[trace.ops[op].phase] if op != NO_OP else "",
        module=trace.module_path(op),
        operator=trace.ops[op].name if op != NO_OP else "",
        after=after,
        before=before,
    )


def _between(after: str, before: str) -> str:
    if after and before:
        return f"between {after!r} and {before!r}"
    return f"after {after!r}" if after else f"before {before!r}" if before else ""
