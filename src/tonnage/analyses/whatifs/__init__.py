"""What another layer in the place of this one would cost: the exchanges that people learn, worked out.

    >>> first = what_ifs(Convolution(in_channels=64, out_channels=64, kernel=(5, 5), height=56, width=56))[0]
    >>> first.name, first.before.parameters.value, first.after.parameters.value
    ('2 of 3x3 for 5x5', 102400, 73728)
    >>> first.after.parameters.formula
    '3^2*C_in*C_out + (m - 1)*3^2*C_out^2'

Every count is a formula, the formula with its numbers, and the value. MACs are of the forward pass; norms and
activations between the new layers are not counted. A layer with a bias is exchanged for layers with biases.
"""

from tonnage.analyses.whatifs.convolutions import Convolution, receptive_field
from tonnage.analyses.whatifs.exchange import Amount, Side, WhatIf
from tonnage.analyses.whatifs.layers import Layer, what_ifs
from tonnage.analyses.whatifs.models import LayerWhatIf, ModelWhatIf, model_what_ifs
from tonnage.analyses.whatifs.transformers import Attention, FeedForward, Linear

__all__ = [
    "Amount",
    "Attention",
    "Convolution",
    "FeedForward",
    "Layer",
    "LayerWhatIf",
    "Linear",
    "ModelWhatIf",
    "Side",
    "WhatIf",
    "model_what_ifs",
    "receptive_field",
    "what_ifs",
]
