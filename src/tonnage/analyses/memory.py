"""Where every byte of GPU memory is at the peak, and what the allocator and the process hold around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from tonnage.analyses.attention import Attention, account_attention
from tonnage.analyses.known import Known
from tonnage.analyses.place import Place, place_of
from tonnage.ledger import Category
from tonnage.recording import Recording

if TYPE_CHECKING:
    from tonnage.allocator import Timeline  # a saved report is shown without the allocator

START = "start"
"""The mark that the peak is looked for after; what happened before it belongs to nobody's step."""

ROUNDING = "rounding"
"""Not a category of allocations but of each one: the part of its block that nobody asked for."""

_RULES = {"activation", "temporary", "workspace"}
"""What depends on which kernel the device chooses, which is a rule; everything else follows from shapes alone."""


class Peak(Struct, frozen=True, kw_only=True):
    """The instant with the most memory allocated, and the most that allocator and process hold at any time.

    `by_category` is in bytes as asked for, plus "rounding": what the allocator's blocks are larger than that (multiples
    of 512 B, and up to 1 MiB of a block that is not split), so that it sums to `allocated_bytes`. `reserved_bytes` is
    what `torch.cuda.max_memory_reserved()` answers; `process_bytes` is what nvidia-smi shows: reserved plus
    `context_bytes`, in a range over drivers and over what libraries add once they are loaded. On a CPU, whose allocator
    neither rounds nor keeps, reserved is allocated, and the process is the resident set. What a real device said is
    "measured".
    """

    allocated_bytes: int
    reserved_bytes: int
    context_bytes: int
    process_bytes: int
    process_low: int
    process_high: int
    instant: str
    place: Place
    by_category: dict[str, int]
    by_category_known: dict[str, Known]
    allocated_known: Known
    reserved_known: Known = "modelled"
    process_known: Known = "modelled"

    @property
    def cached_bytes(self) -> int:
        """What the allocator holds of the card at its most, above the most that is allocated."""
        return self.reserved_bytes - self.allocated_bytes


class Instant(Struct, frozen=True, kw_only=True):
    """A mark: what is held there, and the most that was allocated at any time since the mark before it."""

    name: str
    allocated_bytes: int
    reserved_bytes: int
    peak_bytes: int


class Memory(Struct, frozen=True, kw_only=True):
    """The memory of one run; `attention` is None where none was computed."""

    peak: Peak
    instants: list[Instant]
    attention: Attention | None = None


def account_memory(recording: Recording, timeline: Timeline) -> Memory:
    """The memory of `recording`, whose ledger (at least one event) the allocator replayed as `timeline`."""
    start = start_of(recording)
    at = _highest(timeline, start, len(recording.ledger))
    return Memory(
        peak=_peak(recording, timeline, start, at),
        instants=_instants(recording, timeline, start),
        attention=account_attention(recording, at),
    )


def start_of(recording: Recording) -> int:
    """The event of the mark START, or the first."""
    return next((position for name, position in recording.ledger.mark_positions() if name == START), 0)


def _highest(timeline: Timeline, start: int, stop: int) -> int:
    """The first event from `start` to before `stop` at which the most is allocated."""
    return max(range(start, stop), key=timeline.allocated.__getitem__)


def _peak(recording: Recording, timeline: Timeline, start: int, at: int) -> Peak:
    environment = recording.environment
    allocated = timeline.allocated[at]
    reserved = max(timeline.reserved[start:])
    by_category = _by_category(recording, timeline, at)
    assert sum(by_category.values()) == allocated, "the categories do not sum to what is allocated"
    place = place_of(recording, at)
    rules = any(by_category[name] for name in _RULES)
    seen = [said.nbytes for said in recording.process]
    most = max(seen, default=None)
    return Peak(
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        context_bytes=environment.context_bytes,
        process_bytes=most or reserved + environment.context_bytes,
        process_low=most or reserved + environment.context_bytes_low,
        process_high=most or reserved + environment.context_bytes_high + environment.libraries_bytes_high,
        instant=str(place),
        place=place,
        by_category=by_category,
        by_category_known={name: _how_known(recording, name in _RULES) for name in by_category},
        allocated_known=_how_known(recording, rules),
        reserved_known=_how_known(recording, environment.device_type == "cuda" or rules),
        process_known="measured" if seen else "assumed" if environment.device_type == "cpu" else "modelled",
    )


def _by_category(recording: Recording, timeline: Timeline, at: int) -> dict[str, int]:
    ledger = recording.ledger
    found = dict.fromkeys((*(category.name.lower() for category in Category), ROUNDING), 0)
    for number in ledger.live(at):
        asked = ledger.sizes[number]
        found[Category(ledger.categories[number]).name.lower()] += asked
        found[ROUNDING] += timeline.block_sizes[number] - asked
    return found


def _how_known(recording: Recording, by_rule: bool) -> Known:
    if recording.environment.measured:
        return "measured"
    return "modelled" if by_rule else "exact"


def _instants(recording: Recording, timeline: Timeline, start: int) -> list[Instant]:
    instants = []
    previous = start
    for name, position in recording.ledger.mark_positions():
        if position < start:
            continue
        instants.append(
            Instant(
                name=name,
                allocated_bytes=timeline.allocated[position],
                reserved_bytes=timeline.reserved[position],
                peak_bytes=timeline.allocated[_highest(timeline, previous, position + 1)],
            )
        )
        previous = position
    return instants
