"""The report: everything that is known about one subject, versioned, to and from JSON and saved files.

A saved file is a zip with `reports.json` (a list of reports) and their recordings (`0.recording`, ...). Versions of the
report: 1 the first. Names may be added within a version, never changed.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Struct

from tonnage.analyses.compute import Compute
from tonnage.analyses.findings import Finding
from tonnage.analyses.forms import ParameterForm
from tonnage.analyses.memory import Memory
from tonnage.analyses.parameters import ParameterCount
from tonnage.analyses.roofline import Roofline, UsefulBatch
from tonnage.analyses.verdict import Verdict
from tonnage.analyses.whatifs import ModelWhatIf
from tonnage.errors import BadFile
from tonnage.recording import Assumption, Environment, NotCounted, Recording, read_file, whole_file
from tonnage.scenario import Scenario

VERSION = 1
_REPORTS = "reports.json"
_SAVE_ONE = "write one with `tonnage weigh ... --save FILE`"
if TYPE_CHECKING:
    from tonnage.analyses.structure import Structure

T = TypeVar("T")


class Subject(Struct, frozen=True, kw_only=True):
    """What was weighed: the name the user gave, how it was resolved, and what it turned out to be."""

    name: str
    kind: str
    class_name: str
    library: str
    description: str

    @property
    def title(self) -> str:
        """Name, class and library, each once: "gpt2 · GPT2LMHeadModel · transformers 5.23.0"."""
        return " · ".join(dict.fromkeys(part for part in (self.name, self.class_name, self.library) if part))


class Input(Struct, frozen=True, kw_only=True):
    """One input of the step, and where it comes from ("given", "seq", "image_size", a default)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: str


class ParameterReport(Struct, frozen=True, kw_only=True):
    """How many parameters one subject has, and why exactly that many."""

    tonnage_version: str
    subject: Subject
    parameters: ParameterCount
    guesses: list[str]

    def to_json(self) -> str:
        return _json(msgspec.structs.replace(self, parameters=self.parameters.settled()))


class ComputeReport(Struct, frozen=True, kw_only=True):
    """How much arithmetic one subject takes in one scenario, and where.

    `config_form` are the forward MACs in the sizes of its config as well, `finding` where parameters and work are.
    `roofline` bounds the time on a card that was named, and `useful` is the batch beyond which a bigger one only takes
    longer there; `what_ifs` are exchanges of its layers, where they were asked for.
    """

    tonnage_version: str
    subject: Subject
    scenario: Scenario
    compute: Compute
    config_form: ParameterForm | None
    finding: Finding
    roofline: Roofline | None = None
    useful: UsefulBatch | None = None
    what_ifs: list[ModelWhatIf] | None = None
    inputs: list[Input]
    guesses: list[str]
    assumptions: list[Assumption]

    def to_json(self) -> str:
        return _json(msgspec.structs.replace(self, compute=self.compute.settled()))


class Report(Struct, frozen=True, kw_only=True, dict=True):
    """What one subject weighs in one scenario.

    `verdict` is None where no card was named; then `environment.device` is the card whose kernels were assumed, and
    `assumptions` says so. Bytes are integers. `to_json` and `from_json` keep everything but the recording.
    """

    tonnage_report: int = VERSION
    tonnage_version: str
    subject: Subject
    scenario: Scenario
    card: str | None
    parameters: ParameterCount
    compute: Compute
    memory: Memory
    verdict: Verdict | None
    inputs: list[Input]
    guesses: list[str]
    assumptions: list[Assumption]
    not_counted: list[NotCounted]
    environment: Environment

    @property
    def recording(self) -> Recording | None:
        """What this report was made from; None for one that was read from plain JSON."""
        source = self.__dict__.get("recording_source")
        return source() if source else None

    @property
    def structure(self) -> Structure | None:
        """What the subject is made of, read from the recording; None without one."""
        recording = self.recording
        if recording is None:
            return None
        from tonnage.analyses.structure import read_structure  # spares whoever only prints a report

        return read_structure(
            recording.trace.modules,
            recording.trace.parameters,
            recording=recording,
            macs={work.path: work.own_macs for work in self.compute.by_module if work.type},
            macs_missing=tuple(unknown.module for unknown in self.compute.unsupported),
            name=self.subject.title,
        )

    def with_recording(self, source: Callable[[], Recording]) -> Report:
        """This report, knowing what it was made from: calling `source` gives the recording."""
        self.__dict__["recording_source"] = source
        return self

    def settled(self) -> Report:
        """This report with its closed forms derived, which are otherwise derived when they are first asked for."""
        settled = msgspec.structs.replace(self, parameters=self.parameters.settled(), compute=self.compute.settled())
        return (
            settled.with_recording(self.__dict__["recording_source"])
            if "recording_source" in self.__dict__
            else settled
        )

    def to_json(self) -> str:
        return _json(self.settled())

    @classmethod
    def from_json(cls, text: str | bytes, *, name: str = "report") -> Report:
        """The report in `text`; BadFile if it is damaged, newer than this tonnage, or something else."""
        return _decode(text, name=name, kind=cls, header=_Header)


def reports_to_json(reports: Sequence[Report]) -> str:
    """One report as it is, several as a list."""
    return reports[0].to_json() if len(reports) == 1 else _json([report.settled() for report in reports])


def json_schema() -> dict[str, Any]:
    """The JSON Schema of one report; published with the package as data/report.schema.json."""
    schema = _cleaned(msgspec.json.schema(Report))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tonnage report", **schema}


def _cleaned(part: Any) -> Any:
    """`part` of a schema with docstrings without their indentation, which Python 3.13 takes off by itself."""
    if isinstance(part, dict):
        return {
            key: cleandoc(value) if key == "description" and isinstance(value, str) else _cleaned(value)
            for key, value in part.items()
        }
    return [_cleaned(item) for item in part] if isinstance(part, list) else part


def save_reports(path: str | os.PathLike[str], reports: Sequence[Report]) -> None:
    """Writes reports and their recordings to one file, whole or not at all."""
    path = Path(path)
    try:
        with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _write(archive, _REPORTS, _json([report.settled() for report in reports]).encode())
            for number, report in enumerate(reports):
                recording = report.recording
                if recording is not None:
                    _write(archive, _member(number), recording.to_bytes())
    except OSError as error:
        raise BadFile(f"{path} cannot be written: {error.strerror}", hint="name a file that can be written") from None


def load_saved(path: str | os.PathLike[str]) -> list[Report]:
    """The reports in a saved file or in a file of report JSON; BadFile if it is damaged, newer, or something else.

    Their recordings stay in the file until they are asked for.
    """
    path = Path(path)
    data = read_file(path)
    if not data.startswith(b"PK"):
        return _decode_list(data, name=str(path))
    reports = _decode_list(_read(path, _REPORTS), name=str(path))
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
    return [
        report.with_recording(partial(_recording, path, number)) if _member(number) in members else report
        for number, report in enumerate(reports)
    ]


class _Header(Struct):
    tonnage_report: int


def _json(value: Struct | list[Report]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _decode_list(data: bytes, *, name: str) -> list[Report]:
    if data.lstrip()[:1] == b"[":
        return _decode(data, name=name, kind=list[Report], header=Annotated[list[_Header], msgspec.Meta(min_length=1)])
    return [Report.from_json(data, name=name)]


def _decode(data: str | bytes, *, name: str, kind: type[T], header: Any) -> T:
    headers = _parse(data, header, f"{name} is damaged or no tonnage report")
    newest = max(h.tonnage_report for h in (headers if isinstance(headers, list) else [headers]))
    if newest > VERSION:
        raise BadFile(
            f"{name} has report version {newest}; this tonnage reads up to {VERSION}",
            hint="upgrade tonnage: pip install --upgrade tonnage",
        )
    report: T = _parse(data, kind, f"{name} is damaged")
    return report


def _parse(data: str | bytes, kind: Any, trouble: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadFile(f"{trouble}: {error}", hint=_SAVE_ONE) from None


def _member(number: int) -> str:
    return f"{number}.recording"


def _write(archive: zipfile.ZipFile, member: str, data: bytes) -> None:
    """Without the time of day, so that the same reports give the same file."""
    archive.writestr(zipfile.ZipInfo(member), data, zipfile.ZIP_DEFLATED)


def _read(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, OSError) as error:
        raise BadFile(f"{path} is damaged or no tonnage report: {error}", hint=_SAVE_ONE) from None


def _recording(path: Path, number: int) -> Recording:
    return Recording.from_bytes(_read(path, _member(number)), name=f"{path} ({_member(number)})")


if __name__ == "__main__":  # prints the schema, to be kept as data/report.schema.json
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
