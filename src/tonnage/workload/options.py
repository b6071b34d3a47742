"""Options that change a built model: attention and checkpointing."""

from __future__ import annotations

from torch import nn

from tonnage.errors import BadOption
from tonnage.scenario import Scenario


def set_attention(model: nn.Module, scenario: Scenario) -> None:
    """Switches a built model to `scenario.attention`; BadOption if it has no such switch."""
    if scenario.attention is None:
        return
    switch = getattr(model, "set_attn_implementation", None)
    if switch is None:
        raise BadOption(
            f"attention={scenario.attention!r} cannot be chosen for {type(model).__name__}",
            hint="leave attention out: the model's code decides, or build the model with the attention you want",
        )
    try:
        switch(scenario.attention)
    except (ValueError, ImportError) as error:
        raise _no_attention(type(model).__name__, scenario, error) from error


def _no_attention(name: str, scenario: Scenario, error: Exception) -> BadOption:
    return BadOption(f"{name} has no attention={scenario.attention!r}: {error}", hint="leave attention out")


def set_checkpointing(model: nn.Module, scenario: Scenario) -> None:
    """Switches checkpointing on the way the model's library does; BadOption if the model cannot."""
    if not scenario.checkpointing:
        return
    switch = getattr(model, "gradient_checkpointing_enable", None) or getattr(model, "set_grad_checkpointing", None)
    if switch is None:
        raise BadOption(
            f"checkpointing cannot be switched on in {type(model).__name__}",
            hint="call torch.utils.checkpoint in the model's own forward, and leave checkpointing out",
        )
    try:
        switch()
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise BadOption(
            f"{type(model).__name__} does not support checkpointing: {error}", hint="leave checkpointing out"
        ) from error
