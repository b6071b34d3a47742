"""The process that a measurement runs in: `python -m tonnage.measuring.child`, with the task on stdin.

It tells of everything on stdout, one line of JSON for each note; recordings are files in the task's folder. What the
subject's own code prints goes to stderr. Whatever becomes of it, notes and files that were written stay.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from tonnage.scenario import Scenario
from tonnage.workload.workload import InputSpec


class Task(Struct, frozen=True, kw_only=True):
    """What is to be measured."""

    subject: str
    scenario: Scenario
    device: str
    repeats: int
    warmup: int
    trust_remote_code: bool
    folder: str


class Stage(Struct, frozen=True, tag=True):
    """What is being done."""

    name: str


class Run(Struct, frozen=True, kw_only=True, tag=True):
    """A run has ended, and its recording is in the file `file` of the folder."""

    file: str
    complete: bool
    inputs: list[InputSpec]
    guesses: list[str]


class Stop(Struct, frozen=True, kw_only=True, tag=True):
    """No run will follow: memory ran out, or something could not be done."""

    out_of_memory: bool
    message: str
    hint: str


Note = Stage | Run | Stop


def main() -> None:
    """Does the task on stdin."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    notes = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(note: Note) -> None:
        notes.write(msgspec.json.encode(note) + b"\n")

    _measure(task, tell)


def _measure(task: Task, tell: Callable[[Note], None]) -> None:
    from tonnage.errors import TonnageError
    from tonnage.measuring.running import runs
    from tonnage.workload import resolve

    try:
        workload = resolve(task.subject, trust_remote_code=task.trust_remote_code)
        finished = runs(
            workload,
            task.scenario,
            device=task.device,
            repeats=task.repeats,
            warmup=task.warmup,
            say=lambda stage: tell(Stage(stage)),
        )
        for number, one in enumerate(finished):
            name = f"{number}.recording"
            one.recording.save(Path(task.folder, name))
            inputs, guesses = ([], []) if one.ran is None else (list(one.ran.inputs), list(one.ran.guesses))
            tell(Run(file=name, complete=one.stopped is None, inputs=inputs, guesses=guesses))
            if one.stopped:
                tell(Stop(out_of_memory=one.stopped.out_of_memory, message=one.stopped.message, hint=one.stopped.hint))
    except TonnageError as error:
        tell(Stop(out_of_memory=False, message=error.message, hint=error.hint))


if __name__ == "__main__":
    main()
