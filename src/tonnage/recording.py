"""A recording: the ledger, the trace, and where they were made. Everything after the recorders reads this.

A saved recording is one file: a header line with the version, then zlib-compressed MessagePack. Versions:
1 the first; 2 modules say what they are, and calls and marks are in the trace; 3 what the process held at its marks,
what the card's own allocator said there, and the type of the device.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from tonnage.errors import BadFile
from tonnage.ledger import Ledger
from tonnage.trace import Trace

VERSION = 3
_MAGIC = b"tonnage recording "

PEAK = "peak"
"""In place of a mark: the most that was held at any time of the run."""


@dataclass(frozen=True)
class Assumption:
    """Something that could not be known and what was taken instead.

    `what` names both; `where` is the line of user code that asked ("train.py:12"), or "" when none did; `times`
    is how often.
    """

    what: str
    where: str = ""
    times: int = 1


@dataclass(frozen=True)
class NotCounted:
    """Work or memory that is missing from the numbers, and why."""

    what: str
    reason: str
    times: int = 1


@dataclass(frozen=True)
class ProcessMemory:
    """What the whole process held at the mark `mark`, or at PEAK, as the system said: only a measured recording has it.

    On a card that is NVML's figure: context, loaded code and the allocator's segments. On a CPU it is the resident set.
    """

    mark: str
    nbytes: int


@dataclass(frozen=True)
class CardMemory:
    """What the card's own caching allocator held at the mark `mark`, or at PEAK: only a measured recording has it.

    The bytes that torch.cuda.memory_allocated() and memory_reserved() answer, at PEAK those of max_memory_allocated()
    and max_memory_reserved(). None where it was not asked.
    """

    mark: str
    allocated: int | None
    reserved: int | None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The card and the libraries that a recording stands for.

    `torch_rules` is the PyTorch version whose memory behaviour was followed, `torch_running` the one that ran.
    `context_bytes` and its range are what the process holds on the card before the first allocation;
    `libraries_bytes_high` is the most that kernels and libraries commonly add to it as they are first used.
    `device_type` is "cuda" or "cpu", whose memory has no segments and no capability, and whose context is the resident
    set of the process before it ran. `measured` means that a real device was recorded.
    """

    device: str
    compute_capability: tuple[int, int]
    sm_count: int
    total_memory: int
    context_bytes: int
    context_bytes_low: int
    context_bytes_high: int
    libraries_bytes_high: int = 0
    torch_rules: str
    torch_running: str
    python: str
    alloc_conf: str = ""
    libraries: dict[str, str] = field(default_factory=dict)
    measured: bool = False
    device_type: str = "cuda"


@dataclass
class Recording:
    """What one run did with the memory of one card."""

    ledger: Ledger
    trace: Trace
    environment: Environment
    assumptions: list[Assumption] = field(default_factory=list)
    not_counted: list[NotCounted] = field(default_factory=list)
    process: list[ProcessMemory] = field(default_factory=list)
    card: list[CardMemory] = field(default_factory=list)

    def check(self) -> None:
        """Raises AssertionError unless ledger and trace fit together."""
        self.ledger.check()
        assert all(-1 <= op < len(self.trace.ops) for op in self.ledger.ops), "an allocation of an unknown operator"
        assert all(0 <= op.module < len(self.trace.modules) for op in self.trace.ops), "an operator of no module"

    def to_bytes(self) -> bytes:
        body = msgspec.msgpack.encode(self, enc_hook=_encode_array)
        return _MAGIC + str(VERSION).encode() + b"\n" + zlib.compress(body, 6)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "recording") -> Recording:
        head, newline, body = data.partition(b"\n")
        if not newline or not head.startswith(_MAGIC):
            raise BadFile(f"{name} is not a tonnage recording", hint="save one with `tonnage weigh ... --save FILE`")
        version = head[len(_MAGIC) :]
        if not version.isdigit() or int(version) > VERSION:
            raise BadFile(
                f"{name} has recording version {version.decode(errors='replace')}; this tonnage reads up to {VERSION}",
                hint="upgrade tonnage: pip install --upgrade tonnage",
            )
        try:
            recording: Recording = msgspec.msgpack.decode(zlib.decompress(body), type=cls, dec_hook=_decode_array)
            recording.check()
        except (zlib.error, msgspec.MsgspecError, AssertionError, KeyError, ValueError) as error:
            raise BadFile(f"{name} is damaged: {error}", hint="record it again") from None
        return recording

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the recording to `path`, whole or not at all."""
        with whole_file(Path(path)) as file:
            file.write(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """The recording in `path`; BadFile if it is damaged, newer than this tonnage, or something else."""
        return cls.from_bytes(read_file(Path(path)), name=str(path))


def is_recording(path: str | os.PathLike[str]) -> bool:
    """Whether the file at `path` begins as a saved recording does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under `path` only once the block ends without an error."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise BadFile(f"{path} cannot be written: {error.strerror}", hint="name a folder that can be written") from None
    try:
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(handle, 0o666 & ~umask)
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", hint="check the path") from None


def _encode_array(value: Any) -> Any:
    if isinstance(value, array):
        return [value.typecode, value.itemsize, value.tobytes()]
    raise NotImplementedError(type(value))


def _decode_array(kind: type, value: Any) -> Any:
    typecode, itemsize, data = value
    column = array(typecode)
    if column.itemsize != itemsize:
        raise ValueError(f"a column of {itemsize}-byte numbers")
    column.frombytes(data)
    return column
