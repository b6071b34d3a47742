"""Exchanges for the layers of a transformer."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tonnage.analyses.whatifs.exchange import Side, WhatIf, amount


class Attention(Struct, frozen=True, kw_only=True):
    """Self-attention without biases: `width` of the model, heads of `head_size` (None: width / heads), tokens."""

    width: int
    heads: int
    tokens: int
    head_size: int | None = None


class FeedForward(Struct, frozen=True, kw_only=True):
    """Two linear layers without biases, to `inner` features and back."""

    width: int
    inner: int
    tokens: int


class Linear(Struct, frozen=True, kw_only=True):
    """A linear layer without bias, and the rank that is tried for it."""

    in_features: int
    out_features: int
    tokens: int
    rank: int


def of_attention(layer: Attention, kv_heads: int | None) -> Iterator[WhatIf]:
    quarter = [layer.heads // 4] if layer.heads % 4 == 0 else []
    for count in dict.fromkeys([*quarter, 1] if kv_heads is None else [kv_heads]):
        if count < layer.heads and layer.heads % count == 0:
            yield _grouped_queries(layer, count)


def _grouped_queries(layer: Attention, kv_heads: int) -> WhatIf:
    size = layer.head_size or layer.width // layer.heads
    values = {"d": layer.width, "h": layer.heads, "d_h": size, "g": kv_heads, "S": layer.tokens}

    def side(what: str, weights: str, cache: str) -> Side:
        return Side(
            what=what,
            parameters=amount(weights, values),
            macs=amount(f"S*({weights}) + 2*S^2*h*d_h", values),
            cache=amount(cache, values),
        )

    few = "1 head" if kv_heads == 1 else f"{kv_heads} heads"
    return WhatIf(
        kind="grouped queries",
        name=f"{few} of keys and values for {layer.heads}",
        before=side(f"{layer.heads} heads", "4*d*h*d_h", "2*h*d_h"),
        after=side(f"{layer.heads} heads, {kv_heads} of keys and values", "2*d*h*d_h + 2*d*g*d_h", "2*g*d_h"),
        remark="every head still attends to every token: the products of attention are the same",
    )


def of_feed_forward(layer: FeedForward) -> Iterator[WhatIf]:
    """A gate makes three matrices of two; 2/3 as wide they hold as much."""
    narrow = 2 * layer.inner // 3
    values = {"d": layer.width, "F": layer.inner, "F_g": narrow, "S": layer.tokens}

    def side(what: str, weights: str) -> Side:
        return Side(what=what, parameters=amount(weights, values), macs=amount(f"S*{weights}", values))

    yield WhatIf(
        kind="gated",
        name="gated, 2/3 as wide, for plain",
        before=side(f"two layers, {layer.inner} wide", "2*d*F"),
        after=side(f"three layers, {narrow} wide", "3*d*F_g"),
        remark="" if layer.inner % 3 == 0 else f"F_g is 2*{layer.inner}/3 rounded down",
    )


def of_linear(layer: Linear) -> Iterator[WhatIf]:
    """The product of two thin matrices instead of the matrix, and beside it, frozen."""
    values = {"d_in": layer.in_features, "d_out": layer.out_features, "r": layer.rank, "S": layer.tokens}
    even = layer.in_features * layer.out_features / (layer.in_features + layer.out_features)

    def side(what: str, weights: str, trainable: str = "") -> Side:
        return Side(
            what=what,
            parameters=amount(weights, values),
            macs=amount(f"S*({weights})", values),
            trainable=amount(trainable, values) if trainable else None,
        )

    yield WhatIf(
        kind="low rank",
        name=f"two factors of rank {layer.rank} for a linear layer",
        before=side("full", "d_in*d_out"),
        after=side(f"rank {layer.rank}", "r*(d_in + d_out)"),
        remark=f"smaller below rank {even:,.6g}, d_in*d_out/(d_in + d_out)",
    )
    yield WhatIf(
        kind="adapter",
        name=f"LoRA of rank {layer.rank} for training a linear layer",
        before=side("full", "d_in*d_out"),
        after=side(f"frozen, and an adapter of rank {layer.rank}", "d_in*d_out + r*(d_in + d_out)", "r*(d_in + d_out)"),
        remark="merged into the weights after training it costs nothing",
    )
