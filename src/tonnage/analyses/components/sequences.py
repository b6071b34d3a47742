"""Components that go along a sequence step by step: selective state spaces, LSTM and GRU."""

from __future__ import annotations

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.describing import linear_sizes
from tonnage.analyses.parts import Model, Part

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def ssm_mixer(part: Part, model: Model) -> Explanation | None:
    """Mamba's mixer: a state for every channel, which A_log lets decay."""
    decay, into, selects = part.tensor("A_log"), part.by_name.get("in_proj"), part.by_name.get("x_proj")
    convolution = part.by_name.get("conv1d")
    if decay is None or len(decay.shape) != 2 or into is None or selects is None or convolution is None:
        return None
    inner, state = decay.shape
    sizes, selected = linear_sizes(into), linear_sizes(selects)
    kernel = convolution.facts.get("kernel_size")
    if sizes is None or selected is None or sizes[1] != 2 * inner or selected[0] != inner or not kernel:
        return None
    return said(
        "ssm_mixer",
        width=sizes[0],
        inner=inner,
        state=state,
        states=inner * state,
        kernel=kernel[0],
        rank=selected[1] - 2 * state,
        selected=selected[1],
    )


def recurrent(part: Part, model: Model) -> Explanation | None:
    facts = part.facts
    gates = _GATES.get(part.type)
    if gates is None or not {"input_size", "hidden_size", "num_layers"} <= facts.keys() or facts.get("proj_size"):
        return None
    inputs, hidden, layers = facts["input_size"], facts["hidden_size"], facts["num_layers"]
    biases = f" + 2*{hidden}" if facts.get("bias", True) else ""
    inside = f"({inputs} + {hidden})*{hidden}{biases}"
    arithmetic = f"{gates}*({inside})" if gates > 1 else inside
    first = gates * ((inputs + hidden) * hidden + (2 * hidden if biases else 0))
    return said(
        part.type.lower(),
        inputs=inputs,
        hidden=hidden,
        layers=layers,
        directions=2 if facts.get("bidirectional") else 1,
        arithmetic=arithmetic,
        first=first,
        parameters=part.own_parameters,
    )
