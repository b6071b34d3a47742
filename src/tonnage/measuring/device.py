"""The seam between a real device and everything that reads what happened on it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from tonnage.recording import Recording

if TYPE_CHECKING:
    from torch import nn  # memory snapshots, in this room too, are read without it
    from typing_extensions import Self

DEVICES = ("cuda", "cpu")
"""Each has a file of its name in this room, with the functions `recorder` and `environment`."""


class DeviceRecorder(Protocol):
    """Writes down what one run does with the memory of a real device, from entering it to leaving it.

    Everything between is the user's run, unchanged: no dispatch mode, no other kernels, no copies of tensors. What the
    device's allocator itself reports is written down, so that what kernels take for themselves is there too: category
    WORKSPACE, for the length of the call. `recording` is complete after leaving, also after an error (running out of
    memory) inside; `recording.process` has an entry for each mark.
    """

    device: str
    """As `torch.device` takes it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def mark(self, name: str) -> None:
        """Names this instant, as `VirtualGpu.mark` does; pending work of the device has ended by then."""

    def watch(self, model: nn.Module) -> None:
        """Names modules and parameters of `model` by their paths in it, before it is first called."""

    @property
    def recording(self) -> Recording: ...
