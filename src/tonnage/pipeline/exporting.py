"""A saved recording, or a memory snapshot of PyTorch, is written in another form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tonnage.allocator import Settings
from tonnage.analyses.fit import replay_without_limit
from tonnage.errors import BadFile, BadOption
from tonnage.measuring.snapshots import is_snapshot, read_snapshot, write_snapshot
from tonnage.recording import Recording, is_recording, whole_file
from tonnage.report import load_saved


def export(
    file: str | os.PathLike[str], out: str | os.PathLike[str], *, number: int | None = None, device: int | None = None
) -> None:
    """Writes the recording in `file` to `out`, in the form that the suffix of `out` names.

        export("bert.tonnage", "bert.pickle")      # for PyTorch's memory viewer
        export("bert.tonnage", "bert.json")        # for ui.perfetto.dev and chrome://tracing
        export("snapshot.pickle", "run.tonnage")   # a recording

    `file` is what `weigh --save` wrote, a recording, or a PyTorch memory snapshot; `number` is which report of several
    (from 1), `device` which CUDA device of a snapshot of several. Raises BadOption for a suffix, number or device that
    is not there, BadFile for what cannot be read or written.
    """
    path = Path(out)
    write = _WRITERS.get(path.suffix)
    if write is None:
        raise BadOption(
            f"{path.suffix or path.name!r} says not what to write",
            hint=f"end the file's name in one of {', '.join(_WRITERS)}",
        )
    write(load_recording(file, number=number, device=device), path)


def load_recording(file: str | os.PathLike[str], *, number: int | None = None, device: int | None = None) -> Recording:
    """The recording in `file`: a saved report's, a recording of its own, or a PyTorch memory snapshot's."""
    if is_snapshot(file):
        return read_snapshot(file, device=device).recording
    if is_recording(file):
        return Recording.load(file)
    reports = load_saved(file)
    if number is None and len(reports) > 1:
        subjects = ", ".join(f"{index} {report.subject.name}" for index, report in enumerate(reports, start=1))
        raise BadOption(f"{file} holds {len(reports)} reports: {subjects}", hint="name one of them: --report N")
    if number is not None and not 1 <= number <= len(reports):
        raise BadOption(f"{file} has no report {number}", hint=f"there are {len(reports)}")
    recording = reports[(number or 1) - 1].recording
    if recording is None:
        raise BadFile(f"{file} holds a report without its recording", hint="save both: `tonnage weigh ... --save FILE`")
    return recording


def _write_chrome(recording: Recording, path: Path) -> None:
    from tonnage.render.chrome import chrome_trace

    timeline = replay_without_limit(recording, Settings.parse(recording.environment.alloc_conf))
    with whole_file(path) as file:
        file.write(chrome_trace(recording, timeline))


_WRITERS: dict[str, Callable[[Recording, Path], None]] = {
    ".pickle": write_snapshot,
    ".json": _write_chrome,
    ".tonnage": Recording.save,
}
