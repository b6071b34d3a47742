"""Two recordings, wherever they are kept, are compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tonnage.analyses.comparison import Comparison, Side, compare_sides
from tonnage.errors import BadFile, BadOption
from tonnage.measuring.snapshots import is_snapshot, read_snapshot
from tonnage.recording import PEAK, CardMemory, Recording, is_recording
from tonnage.report import Report, load_saved

Source = str | os.PathLike[str] | Report | Recording


def compare(
    predicted: Source,
    measured: Source,
    *,
    tolerance: float | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """How a prediction differs from a measurement of the same run, where, and which part of it is whose mistake.

        compare("predicted.tonnage", "measured.tonnage").tier("reserved").allocator_error
        compare(tonnage.weigh("gpt2", gpu="T4"), "measured.tonnage", tolerance=0.01).verdict.within

    Each side is a Report, a Recording, or a file: one that `weigh --save` or `measure --save` wrote, a recording, or a
    memory snapshot of PyTorch's (.pickle). Bytes are integers; `difference` is predicted less measured. What one side
    does not know is None, never zero. `tolerance` (0.02: 2 %, which is taken where a prediction meets a measurement) is
    what `verdict` judges the peak by. Two predictions show what another card, version or option changes.

    Raises BadOption where both are not of the same run, BadFile for a file that is damaged, newer, or something else.
    """
    if tolerance is not None and not 0 <= tolerance < 1:
        raise BadOption(f"a tolerance of {tolerance} makes no sense", hint="write a share, such as 0.02 for 2 %")
    progress("reading")
    sides = _side(predicted, "first"), _side(measured, "second")
    progress("replaying and aligning the events")
    return compare_sides(*sides, tolerance=tolerance)


def _side(source: Source, which: str) -> Side:
    if isinstance(source, Recording):
        return Side(source, f"the {which} recording")
    if isinstance(source, Report):
        return _of_report(source, f"the {which} report")
    return _of_file(Path(source))


def _of_report(report: Report, name: str) -> Side:
    recording = report.recording
    if recording is None:
        raise BadFile(
            f"{name} has no recording, only the report", hint="keep both with `tonnage weigh ... --save FILE`"
        )
    return Side(recording, name, report.subject.title, report.scenario)


def _of_file(path: Path) -> Side:
    if is_recording(path):
        return Side(Recording.load(path), str(path))
    if is_snapshot(path):
        return Side(_of_snapshot(path), str(path))
    reports = load_saved(path)
    if len(reports) > 1:
        raise BadOption(
            f"{path} holds {len(reports)} reports, and one is compared",
            hint="weigh each by itself: tonnage weigh SUBJECT ... --save FILE",
        )
    return _of_report(reports[0], str(path))


def _of_snapshot(path: Path) -> Recording:
    """The recording of a snapshot with what its segments say of the memory that the card's allocator held."""
    snapshot = read_snapshot(path)
    recording = snapshot.recording
    if snapshot.peak_reserved is None:
        return recording
    said = [CardMemory(mark, None, snapshot.reserved[at]) for mark, at in recording.ledger.mark_positions()]
    return replace(recording, card=[*said, CardMemory(PEAK, None, snapshot.peak_reserved)])
