"""Where the parameters are and where the work is: of kinds of layers, and in a sentence.

    >>> from msgspec.structs import replace
    >>> convolution = KindShare(kind="convolution", parameters=147, macs=992, parameter_share=0.107, mac_share=0.992)
    >>> linear = KindShare(kind="linear", parameters=1236, macs=8, parameter_share=0.893, mac_share=0.008)
    >>> sentence([convolution, linear])
    'The linear layers hold 89 % of the parameters, the convolutions do 99 % of the multiply-accumulates.'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal

from msgspec import Struct

from tonnage.analyses.passes import last_step
from tonnage.costs import Unknown, cost
from tonnage.trace import Module, Op, Trace

LayerKind = Literal["convolution", "linear", "embedding", "attention", "recurrent", "norm", "other"]

_PLURAL: dict[LayerKind, str] = {
    "convolution": "convolutions",
    "linear": "linear layers",
    "embedding": "embeddings",
    "attention": "products of attention",
    "recurrent": "recurrent layers",
    "norm": "norms",
    "other": "other parts",
}
