"""Runs are gathered as they end, in this process or from a child, so that what is complete outlives what goes wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from tonnage.analyses.measurement import Failure, Trouble
from tonnage.measuring.child import Note, Run, Stage, Stop, Task
from tonnage.measuring.running import runs
from tonnage.recording import Recording
from tonnage.scenario import Scenario
from tonnage.workload import resolve
from tonnage.workload.workload import InputSpec

GRACE = 5.0
"""Seconds that a child is given to end by itself once it was told to."""


@dataclass
class Seen:
    """What is known so far; a run that is complete stays, whatever happens then."""

    recordings: list[Recording] = field(default_factory=list)
    complete: list[bool] = field(default_factory=list)
    inputs: list[InputSpec] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    failure: Failure | None = None

    def add(self, recording: Recording, *, complete: bool, inputs: list[InputSpec], guesses: list[str]) -> None:
        self.recordings.append(recording)
        self.complete.append(complete)
        if complete:
            self.inputs, self.guesses = inputs, guesses

    def fail(self, trouble: Trouble, message: str, hint: str = "") -> None:
        run = len(self.recordings) + all(self.complete)
        self.failure = Failure(trouble=trouble, run=run, message=message, hint=hint)


def here(
    *,
    subject: Any,
    scenario: Scenario,
    device: str,
    repeats: int,
    warmup: int,
    trust_remote_code: bool,
    inputs: Any,
    progress: Callable[[str], None],
) -> Seen:
    """Measures in this process."""
    seen, workload = Seen(), resolve(subject, trust_remote_code=trust_remote_code)
    try:
        for one in runs(workload, scenario, device=device, repeats=repeats, warmup=warmup, inputs=inputs, say=progress):
            ran = one.ran
            seen.add(
                one.recording,
                complete=one.stopped is None,
                inputs=list(ran.inputs) if ran else [],
                guesses=list(ran.guesses) if ran else [],
            )
            if one.stopped:
                seen.fail(_trouble(one.stopped.out_of_memory), one.stopped.message, one.stopped.hint)
    except KeyboardInterrupt:
        seen.fail("interrupted", "runs that were complete by then are kept")
    return seen


def in_child(*, progress: Callable[[str], None], **task: Any) -> Seen:
    """Measures in a process of its own, and notes what becomes of it; `task` are the fields of Task."""
    seen = Seen()
    with TemporaryDirectory(prefix="tonnage-") as folder:
        child = subprocess.Popen(
            [sys.executable, "-m", "tonnage.measuring.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the child
        )
        try:
            for note in _notes(child, Task(folder=folder, **task)):
                _take(seen, note, Path(folder), progress)
            child.wait()
        except KeyboardInterrupt:
            seen.fail("interrupted", "runs that were complete by then are kept")
        finally:
            _end(child)
        if seen.failure is None and child.returncode:
            seen.fail("died", _last_words(child.returncode), "the lines above are its own; a smaller batch takes less")
    return seen


def _notes(child: subprocess.Popen[bytes], task: Task) -> Iterator[Note]:
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(msgspec.json.encode(task))
        child.stdin.close()
    except BrokenPipeError:
        return  # it died at once; its exit code says so
    decoder = msgspec.json.Decoder(Note)
    for line in child.stdout:
        if line.endswith(b"\n"):  # the last words of a process that was killed may be cut
            yield decoder.decode(line)


def _take(seen: Seen, note: Note, folder: Path, progress: Callable[[str], None]) -> None:
    match note:
        case Stage(name):
            progress(name)
        case Run():
            recording = Recording.load(folder / note.file)
            seen.add(recording, complete=note.complete, inputs=note.inputs, guesses=note.guesses)
        case Stop():
            seen.fail(_trouble(note.out_of_memory), note.message, note.hint)


def _trouble(out_of_memory: bool) -> Trouble:
    return "out of memory" if out_of_memory else "failed"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child that is still there."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _last_words(code: int) -> str:
    """How a process ended. SIGKILL is what Linux sends when the machine's memory runs out."""
    if code >= 0:
        return f"the measuring process ended with exit code {code}"
    name = signal.Signals(-code).name
    why = ", which is what Linux does when memory runs out" if name == "SIGKILL" else ""
    return f"the measuring process was ended by {name}{why}"
