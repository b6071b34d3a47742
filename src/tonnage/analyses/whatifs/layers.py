"""From a layer to the exchanges that it offers."""

from __future__ import annotations

from typing import TypeAlias

from tonnage.analyses.whatifs.convolutions import Convolution, of_convolution, of_pair
from tonnage.analyses.whatifs.exchange import WhatIf
from tonnage.analyses.whatifs.transformers import (
    Attention,
    FeedForward,
    Linear,
    of_attention,
    of_feed_forward,
    of_linear,
)

Layer: TypeAlias = Convolution | Attention | FeedForward | Linear


def what_ifs(layer: Layer, *, groups: int = 32, reduction: int = 4, kv_heads: int | None = None) -> list[WhatIf]:
    """The exchanges that `layer` offers.

    `groups` are those of a grouped convolution, `reduction` is how much narrower the middle of a bottleneck is, and
    `kv_heads` how many heads of keys and values grouped queries keep (None: a quarter, where that is whole, and one).
    What does not fit, such as groups that do not divide the channels, is left out.
    """
    match layer:
        case Convolution():
            return [*of_convolution(layer, groups), *of_pair(layer, reduction)]
        case Attention():
            return list(of_attention(layer, kv_heads))
        case FeedForward():
            return list(of_feed_forward(layer))
        case Linear():
            return list(of_linear(layer))
