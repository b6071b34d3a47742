"""What several commands ask: the scenario, and whether code that comes with a model may run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tonnage.scenario import ATTENTIONS, MODES, OPTIMIZERS, PRECISIONS

Command = Callable[..., Any]
Option = Callable[[Command], Command]


def choices(names: tuple[str, ...]) -> str:
    """How an option that takes one of `names` is shown; the Scenario checks it, with a better message than click's."""
    return f"[{'|'.join(names)}]"


SIZES: tuple[Option, ...] = (
    click.option("--batch", type=int, default=1, show_default=True, help="Samples at a time."),
    click.option("--seq", type=int, help="Tokens per sample, where the model takes tokens."),
    click.option("--image-size", type=int, help="Pixels to a side, where the model takes images."),
)
MODE = click.option("--mode", metavar=choices(MODES), default="inference", show_default=True, help="What is run.")
OPTIMIZER = click.option(
    "--optimizer", metavar=choices(OPTIMIZERS), default="adamw", show_default=True, help="For training."
)
PRECISION = click.option(
    "--precision", metavar=choices(PRECISIONS), default="fp32", show_default=True, help="Of the weights."
)
ATTENTION = click.option(
    "--attention", metavar=choices(ATTENTIONS), help="How attention runs; default: as the library does."
)
CHECKPOINTING = click.option("--checkpointing", is_flag=True, help="Recompute activations in backward.")
SCENARIO = (*SIZES, MODE, OPTIMIZER, PRECISION, ATTENTION, CHECKPOINTING)
TRUST_REMOTE_CODE = click.option(
    "--trust-remote-code", is_flag=True, help="Let a model repository run its own Python code here."
)


def with_options(*options: Option) -> Option:
    """All of `options`, listed in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
