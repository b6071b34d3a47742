"""What a subject turned out to be, as the reports say it."""

from __future__ import annotations

from tonnage.report import Subject
from tonnage.workload import Workload


def described(workload: Workload) -> Subject:
    return Subject(
        name=workload.name,
        kind=workload.kind,
        class_name=workload.class_name,
        library=workload.library,
        description=workload.description,
    )
