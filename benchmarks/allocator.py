"""How fast a ledger is replayed: events per second, and how many times a counter that only adds up sizes.

    python benchmarks/allocator.py [--steps N] [--runs N]

The trace is made here, in the manner of a transformer's training step: persistent weights and optimizer states,
activations of a forward pass kept until the backward pass, short-lived temporaries in between, about 10,000
allocations a step, a batch in eight of another length. The counter is the floor of what any replay costs in Python:
a dictionary of the live sizes, their sum, and its peak. A replay is a dozen times that, because two of three
requests here cut a block and two of three frees merge one: an object, two links and a place in an ordered list each.
Writing `malloc` and `free` out without calls, or without Python's garbage collector, moved it by a few percent only.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from tonnage.allocator import CachingAllocator, Settings, replay
from tonnage.ledger import Kind, Ledger

LAYERS = 48
HIDDEN = 1024


def training_ledger(steps: int) -> Ledger:
    """`steps` training steps of a model of LAYERS layers."""
    chance = random.Random(0)
    ledger = Ledger()
    weights = [HIDDEN * HIDDEN * 4, HIDDEN * 4, HIDDEN * HIDDEN * 16, HIDDEN * 16, HIDDEN * HIDDEN * 16, HIDDEN * 4]
    for _ in range(LAYERS):
        for nbytes in weights:
            for _copy in range(3):
                ledger.alloc(nbytes)
    for _ in range(steps):
        _step(ledger, tokens=8 * (512 if chance.random() < 7 / 8 else chance.choice((128, 256, 384))), weights=weights)
    return ledger


def _step(ledger: Ledger, *, tokens: int, weights: list[int]) -> None:
    hidden = tokens * HIDDEN * 2
    saved: list[list[int]] = []
    for _ in range(LAYERS):
        kept = []
        for number in range(40):
            nbytes = (hidden, 4 * hidden, tokens * 4, hidden, tokens * 64, 512)[number % 6]
            kept.append(ledger.alloc(nbytes))
            temporary = ledger.alloc(2 * nbytes if number % 3 else 4)
            other = ledger.alloc(nbytes)
            ledger.free(temporary)
            ledger.free(other)
        saved.append(kept)
    gradients = []
    while saved:
        kept = saved.pop()
        incoming = ledger.alloc(hidden)
        for number in reversed(kept):
            temporary = ledger.alloc(ledger.sizes[number])
            outgoing = ledger.alloc(hidden)
            ledger.free(incoming)
            ledger.free(number)
            ledger.free(temporary)
            incoming = outgoing
        gradients += [ledger.alloc(nbytes) for nbytes in weights]
        ledger.free(incoming)
    for number in gradients:
        temporary = ledger.alloc(ledger.sizes[number])
        ledger.free(temporary)
        ledger.free(number)


def count(ledger: Ledger) -> int:
    """The peak of the requested bytes, by a dictionary of the live sizes."""
    live: dict[int, int] = {}
    total = peak = 0
    sizes = ledger.sizes
    alloc, free = int(Kind.ALLOC), int(Kind.FREE)
    for kind, argument in zip(ledger.kinds, ledger.arguments, strict=True):
        if kind == alloc:
            live[argument] = size = sizes[argument]
            total += size
            if total > peak:
                peak = total
        elif kind == free:
            total -= live.pop(argument)
    return peak


def step_through(ledger: Ledger) -> int:
    """The peak of the allocated bytes, by the steppable allocator with all its statistics."""
    allocator = CachingAllocator()
    blocks = []
    sizes = ledger.sizes
    alloc = int(Kind.ALLOC)
    for kind, argument in zip(ledger.kinds, ledger.arguments, strict=True):
        if kind == alloc:
            blocks.append(allocator.malloc(sizes[argument]))
        else:
            allocator.free(blocks[argument])
    return allocator.peak_allocated


def timed(work: Callable[[], object], *, events: int, runs: int) -> list[float]:
    """Events per second of processor time, of each run: other work on the machine moves it little."""
    rates = []
    for _ in range(runs):
        start = time.process_time()
        work()
        rates.append(events / (time.process_time() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    ledger = training_ledger(options.steps)
    events = len(ledger)
    print(f"{events:,} events, {len(ledger.sizes) // options.steps:,} allocations a step, {options.runs} runs each")
    expandable = Settings(expandable_segments=True)
    candidates: dict[str, Callable[[], object]] = {
        "counter": lambda: count(ledger),
        "replay": lambda: replay(ledger),
        "replay, expandable segments": lambda: replay(ledger, expandable),
        "stepped, all statistics": lambda: step_through(ledger),
    }
    floor = 0.0
    for name, work in candidates.items():
        rates = timed(work, events=events, runs=options.runs)
        middle = statistics.median(rates)
        floor = floor or middle
        print(
            f"{name:28} {middle / 1e6:6.2f} M events/s (from {min(rates) / 1e6:.2f} to {max(rates) / 1e6:.2f}), "
            f"{floor / middle:4.1f} x the counter's time"
        )


if __name__ == "__main__":
    main()
