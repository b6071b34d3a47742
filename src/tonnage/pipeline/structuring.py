"""A subject is built, and run once if asked, and its modules are told apart and folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tonnage.analyses.structure import Structure, read_structure
from tonnage.pipeline.counting import build_dataless
from tonnage.pipeline.describing import described
from tonnage.pipeline.weighing import weigh
from tonnage.render.scenario import in_words
from tonnage.scenario import Mode
from tonnage.workload import resolve
from tonnage.workload.blueprint import members_of, modules_of


def structure(
    subject: Any,
    *,
    run: bool = True,
    batch: int = 1,
    seq: int | None = None,
    image_size: int | None = None,
    mode: Mode = "inference",
    inputs: Any = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Structure:
    """What `subject` is made of: its modules with repeats folded, and what each is, has and does.

        structure("t5-small").root.children
        structure(my_module, inputs=((x,), {}), mode="training")

    Output shapes, MACs and, for training, the bytes that each module keeps for backward come from one run on the
    virtual GPU; `run=False` leaves them out. Raises a TonnageError that says what could not be done.
    """
    progress("looking for the model")
    workload = resolve(subject, trust_remote_code=trust_remote_code)
    progress("building the model")
    model = build_dataless(workload)
    modules, members = modules_of(model), list(members_of(model))
    name = described(workload).title
    if not run:
        return read_structure(modules, members, name=name)
    report = weigh(
        subject,
        batch=batch,
        seq=seq,
        image_size=image_size,
        mode=mode,
        inputs=inputs,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    compute = report.compute
    return read_structure(
        modules,
        members,
        recording=report.recording,
        macs={work.path: work.own_macs for work in compute.by_module if work.type},
        macs_missing=tuple(unknown.module for unknown in compute.unsupported),
        name=name,
        ran=in_words(report.scenario),
    )
