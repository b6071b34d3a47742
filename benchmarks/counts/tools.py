"""Each tool as its own documentation says, brought to one answer: parameters, and MACs of the forward pass.

torchinfo    `summary(model, input_data=...)`; its "mult-adds" count the bias as well, as one each
fvcore       `FlopCountAnalysis(model, inputs)`, whose FLOP is a multiply-add. It counts norms and resampling too; its
             `by_operator()` tells them apart, and they are left out here. Inputs are positional only, so a model with
             keywords is wrapped
torch        `with FlopCounterMode(): model(...)`, halved: its FLOPs are two to a MAC. It counts no parameters
deepspeed    `get_model_profile(model, args=..., kwargs=...)`, with its one warm-up run
tonnage      `weigh(model, inputs=...)`
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from models import Subject
from torch import nn


class Count(NamedTuple):
    """What a tool answered; `parameters` None where it counts none, `told` the products it says it left out."""

    macs: int
    parameters: int | None
    told: str = ""


def torchinfo(subject: Subject) -> Count:
    from torchinfo import summary

    data: Any = subject.kwargs or list(subject.args)
    found = summary(subject.model, input_data=data, verbose=0)
    return Count(found.total_mult_adds, found.total_params)


NOT_PRODUCTS = ("norm", "upsample", "grid_sampler", "adaptive_avg_pool")
PRODUCTS = ("attention", "mm", "matmul", "conv", "linear", "einsum")


def fvcore(subject: Subject) -> Count:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    model, inputs = subject.model, subject.args
    if subject.kwargs:
        model, inputs = _Positional(model, tuple(subject.kwargs)), tuple(subject.kwargs.values())
    analysis = FlopCountAnalysis(model, inputs)
    operators = analysis.by_operator()
    macs = sum(count for name, count in operators.items() if not any(part in name for part in NOT_PRODUCTS))
    skipped = [name for name in analysis.unsupported_ops() if any(part in name for part in PRODUCTS)]
    return Count(int(macs), parameter_count(subject.model)[""], ", ".join(sorted(skipped)))


class _Positional(nn.Module):
    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Any) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True)))


def torch_counter(subject: Subject) -> Count:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        subject.model(*subject.args, **subject.kwargs)
    return Count(counter.get_total_flops() // 2, None)


def deepspeed(subject: Subject) -> Count:
    from deepspeed.profiling.flops_profiler import get_model_profile

    _, macs, parameters = get_model_profile(
        subject.model, args=list(subject.args), kwargs=subject.kwargs, print_profile=False, as_string=False
    )
    return Count(int(macs), parameters)


def tonnage(subject: Subject) -> Count:
    from tonnage import weigh

    report = weigh(subject.model, inputs=(subject.args, subject.kwargs))
    left_out = ", ".join(missing.operator for missing in report.compute.unsupported)
    return Count(report.compute.macs, report.parameters.total, left_out)


TOOLS: dict[str, Callable[[Subject], Count]] = {
    "torchinfo": torchinfo,
    "fvcore": fvcore,
    "torch": torch_counter,
    "deepspeed": deepspeed,
    "tonnage": tonnage,
}


def installed(tool: str) -> str:
    """The version of `tool`, "" if it is not installed."""
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""
