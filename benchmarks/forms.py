"""How long the closed form of a model's parameters takes: every architecture of the catalogue, derived and proved.

    python benchmarks/forms.py [--repeats N]

The library's own import of the model's code is left out: each model is built once before it is timed.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import tonnage
from tonnage.workload.catalogue import Entry, all_entries

TARGET = 3.0
"""Seconds that one form may take on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    slowest: dict[str, list[float]] = {}
    print(f"{'architecture':40} {'model':45} {'s':>6} {'min':>6} {'max':>6}  form")
    for entry in one_of_each():
        seconds, said = timed(entry, repeats)
        slowest[entry.architecture] = seconds
        figures = " ".join(f"{s:6.2f}" for s in (median(seconds), min(seconds), max(seconds)))
        print(f"{entry.architecture:40} {entry.name:45} {figures}  {said}")
    medians = sorted(map(median, slowest.values()))
    over = [name for name, seconds in slowest.items() if median(seconds) > TARGET]
    print(f"{len(medians)} architectures: {medians[0]:.2f} to {medians[-1]:.2f} s, median {median(medians):.2f} s")
    print(f"over {TARGET:.0f} s: {', '.join(over) or 'none'}")


def one_of_each() -> list[Entry]:
    """The smallest model of each architecture."""
    found: dict[str, Entry] = {}
    for entry in sorted(all_entries(), key=lambda entry: entry.parameters):
        found.setdefault(entry.architecture, entry)
    return sorted(found.values(), key=lambda entry: entry.architecture)


def timed(entry: Entry, repeats: int) -> tuple[list[float], str]:
    """The seconds of each repeat, and what came of it."""
    tonnage.params(entry.name)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        form = tonnage.params(entry.name).parameters.form
        seconds.append(time.perf_counter() - begin)
    assert form is not None
    return seconds, "proved" if form.proved else f"not proved: {form.reason}"


if __name__ == "__main__":
    main()
