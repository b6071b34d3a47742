"""From a subject to a model, inputs and a step, as ordinary PyTorch code. Torch is allowed from here up."""

from tonnage.workload.resolve import resolve
from tonnage.workload.step import Ran, run
from tonnage.workload.workload import Inputs, InputSpec, Workload

__all__ = ["InputSpec", "Inputs", "Ran", "Workload", "resolve", "run"]
