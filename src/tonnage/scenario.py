"""What is run: one forward pass, or one training step, in a given precision with a given optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tonnage.errors import BadOption

Mode = Literal["inference", "training"]
Precision = Literal["fp32", "bf16", "fp16", "amp-bf16", "amp-fp16"]
Optimizer = Literal[
    "sgd",
    "momentum",
    "adam",
    "adamw",
    "adamw-fused",
    "adamw-8bit",
    "adagrad",
    "rmsprop",
    "radam",
    "nadam",
    "adamax",
    "adadelta",
    "adafactor",
    "asgd",
    "rprop",
    "lion",
]
Attention = Literal["sdpa", "eager"]

MODES: tuple[str, ...] = get_args(Mode)
PRECISIONS: tuple[str, ...] = get_args(Precision)
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
ATTENTIONS: tuple[str, ...] = get_args(Attention)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing to weigh: sizes of the input and what is done with it.

    `batch` samples, `seq` tokens each where the model takes tokens, `image_size` pixels to a side where it takes
    images (None: the model's own). `mode` "training" is a steady-state step: forward, backward, optimizer, with
    the optimizer's state already born by an earlier step. `precision` "bf16" holds the weights in bf16,
    "amp-bf16" holds them in fp32 under autocast. `attention` None leaves the choice to the model's library.
    """

    batch: int = 1
    seq: int | None = None
    image_size: int | None = None
    mode: Mode = "inference"
    optimizer: Optimizer = "adamw"
    precision: Precision = "fp32"
    attention: Attention | None = None
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "seq", "image_size"):
            _positive(name, getattr(self, name))
        _one_of("mode", self.mode, MODES)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("precision", self.precision, PRECISIONS)
        if self.attention is not None:
            _one_of("attention", self.attention, ATTENTIONS)

    @property
    def training(self) -> bool:
        return self.mode == "training"


def _positive(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise BadOption(f"{name} must be a whole number of at least 1, not {value!r}", hint=f"try {name}=1")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadOption(f"{name} {value!r} is not known", hint=f"choose one of {', '.join(choices)}")
