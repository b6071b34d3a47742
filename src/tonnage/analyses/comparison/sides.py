"""One side of a comparison, read so that both can be asked the same questions."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from tonnage.allocator import Settings, Timeline
from tonnage.analyses.fit import replay_without_limit
from tonnage.analyses.memory import START
from tonnage.errors import BadOption
from tonnage.ledger import NO_OP, Category, Column, Kind
from tonnage.recording import PEAK, CardMemory, Recording
from tonnage.scenario import Scenario
from tonnage.trace import PHASES, ROOT

_ENDS = (("forward done", "forward"), ("backward done", "backward"), ("optimizer done", "optimizer"))
"""What a mark of that ending says of the time before it; see workload.step.run."""
_SETUP = ("model loaded", "inputs made")
_NUMBERS = re.compile(r"(?:(?<=\.)|(?<=_)|^)\d+(?=\.|$)")

Instant = tuple[str, int]
"""A mark by its name and how often that name came before: a loop may use it again."""

HIGHEST: Instant = (PEAK, 0)
"""The most at any time of the run, which is of no mark."""


@dataclass(frozen=True)
class Side:
    """A recording with what its file said of it: `name` for messages, `subject` and `scenario` where known."""

    recording: Recording
    name: str
    subject: str = ""
    scenario: Scenario | None = None

    @property
    def measured(self) -> bool:
        return self.recording.environment.measured

    @property
    def on_card(self) -> bool:
        """Whether a caching allocator stood between the program and the memory: on a CPU there is none."""
        return self.recording.environment.device_type != "cpu"

    @cached_property
    def settings(self) -> Settings:
        """BadOption for settings whose allocator is not simulated."""
        try:
            return Settings.parse(self.recording.environment.alloc_conf)
        except BadOption as error:
            raise BadOption(f"{self.name}: {error.message}", hint="record it with other allocator settings") from None

    @cached_property
    def timeline(self) -> Timeline:
        return replay_without_limit(self.recording, self.settings)

    def through(self, settings: Settings) -> Timeline:
        """Its events through an allocator with other settings."""
        return self.timeline if settings == self.settings else replay_without_limit(self.recording, settings)

    @cached_property
    def requested(self) -> Column:
        """Bytes asked for and not freed, after each event."""
        ledger = self.recording.ledger
        signs = {int(Kind.ALLOC): 1, int(Kind.FREE): -1}
        changes = (
            signs[kind] * ledger.sizes[argument] if kind in signs else 0
            for kind, argument in zip(ledger.kinds, ledger.arguments, strict=True)
        )
        return array("q", accumulate(changes))

    @cached_property
    def start(self) -> int:
        """The event from which on a peak counts."""
        return next((position for name, position in self.positions if name == START), 0)

    @cached_property
    def peak_at(self) -> int:
        """The first event at which the most is allocated."""
        return self.highest(self.start, len(self.recording.ledger))

    def highest(self, begin: int, end: int) -> int:
        """The first event from `begin` to before `end` at which the most is allocated, on a CPU requested."""
        column = self.timeline.allocated if self.on_card else self.requested
        return max(range(begin, end), key=column.__getitem__)

    @cached_property
    def births(self) -> list[int]:
        """The event of each allocation."""
        return [event for event, kind in enumerate(self.recording.ledger.kinds) if kind == Kind.ALLOC]

    @cached_property
    def alive_at_peak(self) -> set[int]:
        return self.alive_at(self.peak_at)

    def alive_at(self, event: int) -> set[int]:
        """The allocations alive after `event`."""
        return set(self.recording.ledger.live(event))

    @cached_property
    def positions(self) -> Sequence[tuple[str, int]]:
        return self.recording.ledger.mark_positions()

    @cached_property
    def instants(self) -> dict[Instant, int]:
        """The event of each mark."""
        return {
            instant: position
            for instant, (_, position) in zip(
                _numbered([name for name, _ in self.positions]), self.positions, strict=True
            )
        }

    @cached_property
    def card(self) -> dict[Instant, CardMemory]:
        """What the card's own allocator said, at marks and at HIGHEST."""
        said = self.recording.card
        return dict(zip(_numbered([memory.mark for memory in said]), said, strict=True))

    @cached_property
    def process(self) -> dict[Instant, int]:
        """What the process held, at marks and at HIGHEST."""
        said = self.recording.process
        return dict(zip(_numbered([m.mark for m in said]), [m.nbytes for m in said], strict=True))

    @property
    def highest_process(self) -> int | None:
        """The most that the process was seen to hold since the start; None: nobody looked."""
        seen = [nbytes for (name, n), nbytes in self.process.items() if self.instants.get((name, n), 0) >= self.start]
        return self.process.get(HIGHEST, max(seen, default=None))

    @cached_property
    def knows_categories(self) -> bool:
        return any(self.recording.ledger.categories)

    @cached_property
    def knows_operators(self) -> bool:
        return any(op != NO_OP for op in self.recording.ledger.ops)

    @cached_property
    def operators(self) -> set[str]:
        """The names of the operators that allocate."""
        ops = self.recording.trace.ops
        return {ops[op].name for op in set(self.recording.ledger.ops) if op != NO_OP}

    @cached_property
    def knows_modules(self) -> bool:
        return self.knows_operators and any(op.module != ROOT for op in self.recording.trace.ops)

    @cached_property
    def phases(self) -> list[str] | None:
        """The phase of each allocation: of its operator, or where none is known as the marks tell; None: not known."""
        if self.knows_operators:
            ops = self.recording.trace.ops
            return ["" if op == NO_OP else PHASES[ops[op].phase] for op in self.recording.ledger.ops]
        return self._phases_by_marks()

    def _phases_by_marks(self) -> list[str] | None:
        named = [(position, _phase_before(name)) for name, position in self.positions]
        if not any(phase for _, phase in named):
            return None
        phases: list[str] = []
        for begin, (end, phase) in zip([0, *(position for position, _ in named)], [*named, (None, "")], strict=True):
            phases += [phase] * self.recording.ledger.kinds[begin:end].count(Kind.ALLOC)
        return phases

    def category(self, number: int) -> str:
        """What allocation `number` is; "" where this side knows no categories."""
        return Category(self.recording.ledger.categories[number]).name.lower() if self.knows_categories else ""

    def operator(self, number: int) -> str:
        op = self.recording.ledger.ops[number]
        return self.recording.trace.ops[op].name if op != NO_OP else ""

    def path(self, number: int) -> str:
        """The module that allocation `number` was made in."""
        return self.recording.trace.module_path(self.recording.ledger.ops[number])

    def module(self, number: int) -> str:
        """The same with the numbers of repeats as *: "layer.*.attention"."""
        op = self.recording.ledger.ops[number]
        return self._patterns[self.recording.trace.ops[op].module] if op != NO_OP else ""

    @cached_property
    def _patterns(self) -> list[str]:
        return [pattern(module.path) for module in self.recording.trace.modules]


def pattern(path: str) -> str:
    """A module's path with the numbers of repeats as *.

    >>> pattern("encoder.layer.3.attention"), pattern("layers.encoder_layer_11.mlp"), pattern("bn1")
    ('encoder.layer.*.attention', 'layers.encoder_layer_*.mlp', 'bn1')
    """
    return _NUMBERS.sub("*", path)


def _numbered(names: Sequence[str]) -> list[Instant]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        found.append((name, seen.get(name, 0)))
        seen[name] = seen.get(name, 0) + 1
    return found


def _phase_before(mark: str) -> str:
    if mark in _SETUP:
        return "setup"
    return next((phase for end, phase in _ENDS if mark.endswith(end)), "")
