"""Tables of learned vectors: of tokens, positions, segments, and of biases by distance."""

from __future__ import annotations

from math import isqrt, prod

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.describing import per_axis, sizes
from tonnage.analyses.parts import Model, Part

_TOKENS = {
    "word_embeddings", "word_embedding", "embed_tokens", "tok_embeddings", "token_embedding", "token_embeddings",
    "wte", "embed_in", "shared",
}  # fmt: skip
_LIKELY_TOKENS = {"embeddings", "embedding", "embed", "emb", "tok_emb", "token_emb"}
_POSITIONS = {
    "position_embeddings", "position_embedding", "embed_positions", "positional_embedding", "pos_embedding", "wpe",
}  # fmt: skip
_SEGMENTS = {"token_type_embeddings", "segment_embeddings"}
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")
_VISION_POSITIONS = ("position_embeddings", "pos_embed", "pos_embedding", "position_embedding")


def embedding(part: Part, model: Model) -> Explanation | None:
    """A table from which rows are taken by number."""
    weight = part.tensor("weight")
    if part.children or weight is None or not {"num_embeddings", "embedding_dim"} <= part.facts.keys():
        return None
    rows, width = weight.shape
    if part.name == "relative_attention_bias":
        return said("relative_position_bias", buckets=rows, heads=width, parameters=rows * width)
    if weight.tied_to:
        return said("tied_embedding", rows=rows, width=width, same=weight.tied_to)
    if part.name in _SEGMENTS:
        return said("segment_embedding", rows=rows, width=width, parameters=rows * width)
    if part.name in _POSITIONS:
        kind = "position_embedding" if weight.trainable else "fixed_position_embedding"
        return said(kind, rows=rows, width=width, parameters=rows * width)
    kind = "token_embedding" if is_token_table(part, model) else "embedding"
    return said(kind, rows=rows, width=width, parameters=rows * width)


def is_token_table(part: Part, model: Model) -> bool:
    """Whether the rows are tokens: by name, or a likely name and a linear layer that scores each row again."""
    if part.name in _TOKENS:
        return True
    shape = part.tensors[0].shape
    return part.name in _LIKELY_TOKENS and any(
        tensor.shape == shape and other.facts.get("out_features") == shape[0]
        for other in model.root.walk()
        for tensor in other.tensors
    )


def vocabulary_table(model: Model) -> Part | None:
    """The largest token embedding, which is the one a language model scores its tokens with."""
    tables = [
        part
        for part in model.root.walk()
        if "num_embeddings" in part.facts and part.name in _TOKENS | _LIKELY_TOKENS and part.tensor("weight")
    ]
    return max(tables, key=lambda part: prod(part.tensors[0].shape), default=None)


def window_bias(part: Part, model: Model) -> Explanation | None:
    """Swin's table: a bias for each head and each offset within a window."""
    table = part.tensor("relative_position_bias_table")
    window = part.facts.get("window_size")
    if table is None or len(table.shape) != 2 or window is None or part.children:
        return None
    sides = per_axis(window, [0, 0])
    rows, heads = table.shape
    if prod(2 * side - 1 for side in sides) != rows:
        return None
    offsets = " x ".join(f"(2*{side} - 1)" for side in sides)
    return said(
        "window_bias", window=sizes(sides), heads=heads, offsets=f"{offsets} = {rows}", parameters=table.parameters
    )


def vision_positions(part: Part, model: Model) -> Explanation | None:
    """A class token in front of the patches, and a position for each of both."""
    token = next((t for t in part.tensors if t.name in _CLASS_TOKENS), None)
    positions = next((t for t in part.tensors if t.name in _VISION_POSITIONS), None)
    if token is None or positions is None or len(positions.shape) != 3 or token.shape[-1] != positions.shape[-1]:
        return None
    patches, width = positions.shape[1] - 1, positions.shape[2]
    if isqrt(patches) ** 2 != patches:
        return None
    return said(
        "vision_positions",
        patches=patches,
        positions=patches + 1,
        width=width,
        parameters=token.parameters + positions.parameters,
    )
