"""Attention and its head layout, from the projections of queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.describing import linear_sizes
from tonnage.analyses.parts import Model, Part

_QUERIES = ("q_proj", "query", "q", "q_lin", "query_proj", "to_q", "wq", "q_linear")
_KEYS = ("k_proj", "key", "k", "k_lin", "key_proj", "to_k", "wk", "k_linear")
_VALUES = ("v_proj", "value", "v", "v_lin", "value_proj", "to_v", "wv", "v_linear")
_FUSED = ("qkv", "qkv_proj", "Wqkv", "query_key_value", "c_attn", "to_qkv")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "heads")
_HEAD_SIZES = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size", "d_kv")
_GROUPS = ("num_key_value_groups", "n_rep")
_CROSS = ("cross", "encdec", "encoder_attn", "encoder_decoder")


@dataclass(frozen=True)
class HeadLayout:
    """`width` in; `heads` query heads and `kv_heads` key and value heads of `size` each."""

    width: int
    heads: int
    kv_heads: int
    size: int


def attention(part: Part, model: Model) -> Explanation | None:
    layout = head_layout(part, model)
    if layout is None:
        return None
    heads, size = layout.heads, layout.size
    numbers = {"width": layout.width, "heads": heads, "head_size": size, "inner": heads * size}
    sort = _sort(part, model)
    if layout.kv_heads == heads:
        return said(f"{sort}attention", **numbers)
    if sort == "cross_":
        return None
    numbers |= {"kv_heads": layout.kv_heads, "kv_inner": layout.kv_heads * size}
    if layout.kv_heads == 1:
        return said("multi_query_attention", **numbers)
    return said("grouped_query_attention", **numbers, group=heads // layout.kv_heads)


def rotary(part: Part, model: Model) -> Explanation | None:
    """A table of frequencies, one for each pair of dimensions that is turned."""
    if part.children or "RotaryEmbedding" not in part.type:
        return None
    pairs = {t.shape for t in part.tensors if t.name.endswith("inv_freq") and t.kind == "buffer"}
    if len(pairs) != 1 or part.own_parameters:
        return None
    (shape,) = pairs
    return said("rotary", pairs=shape[0], size=2 * shape[0]) if len(shape) == 1 else None


def head_layout(part: Part, model: Model) -> HeadLayout | None:
    """The layout of a part that projects queries, keys and values itself; None where heads are not known for sure."""
    if part.type == "MultiheadAttention" and {"embed_dim", "num_heads", "kdim", "vdim"} <= part.facts.keys():
        width, heads = part.facts["embed_dim"], part.facts["num_heads"]
        return HeadLayout(width, heads, heads, width // heads) if width % heads == 0 else None
    for fits in (_separate, _fused):
        layout = fits(part, model)
        if layout is not None and layout.heads % layout.kv_heads == 0:
            return layout
    return None


def attentions(part: Part, model: Model) -> Iterator[Part]:
    """The parts in `part` or it itself that have a head layout."""
    if head_layout(part, model) is not None:
        yield part
        return
    for child in part.children:
        yield from attentions(child, model)


def is_cross(part: Part, model: Model) -> bool:
    """By its names, or as the second attention of torch.nn.TransformerDecoderLayer."""
    parent = model.parent(part)
    if part.name == "multihead_attn" and parent is not None and "self_attn" in parent.by_name:
        return True
    return any(word in f"{_names(part)} {part.type.lower()}" for word in _CROSS)


def _names(part: Part) -> str:
    return ".".join(part.path.lower().split(".")[-2:])


def _sort(part: Part, model: Model) -> str:
    """ "self_", "cross_", or "" where neither its names say it nor its place: the one attention of a repeated block."""
    if is_cross(part, model):
        return "cross_"
    if "self" in f"{_names(part)} {part.type.lower()}":
        return "self_"
    block = model.parent(part)
    while block is not None and not block.name[-1:].isdigit():
        block = model.parent(block)
    return "self_" if block is not None and len(list(attentions(block, model))) == 1 else ""


def _separate(part: Part, model: Model) -> HeadLayout | None:
    found = [_first_linear(part, names) for names in (_QUERIES, _KEYS, _VALUES)]
    if any(sizes is None for sizes in found):
        return None
    (width, inner), (_, keys), (_, values) = [sizes for sizes in found if sizes is not None]
    if keys != values:
        return None
    size = _head_size(part, model, inner)
    if not size or inner % size or keys % size:
        return None
    return HeadLayout(width, inner // size, keys // size, size)


def _fused(part: Part, model: Model) -> HeadLayout | None:
    found = _first_linear(part, _FUSED)
    if found is None:
        return None
    width, both = found
    heads, size = _fact(part, model, _HEADS), _fact(part, model, _HEAD_SIZES)
    if heads is None and size is not None:
        heads = _heads_of_groups(part, model, both, size) or (width // size if both == 3 * width else None)
    if heads is not None and size is None and both == 3 * width and width % heads == 0:
        size = width // heads
    if not heads or not size:
        return None
    kv_heads, rest = divmod(both - heads * size, 2 * size)
    return None if rest or kv_heads < 1 else HeadLayout(width, heads, kv_heads, size)


def _heads_of_groups(part: Part, model: Model, both: int, size: int) -> int | None:
    """Query heads where only is said how many share a key and value head: g of them, so g + 2 heads in all."""
    group = _fact(part, model, _GROUPS)
    if group is None or both % (size * (group + 2)):
        return None
    return group * both // (size * (group + 2))


def _head_size(part: Part, model: Model, inner: int) -> int | None:
    size, heads = _fact(part, model, _HEAD_SIZES), _fact(part, model, _HEADS)
    if heads and inner % heads == 0 and (size is None or size == inner // heads):
        return inner // heads
    return size if heads is None else None


def _first_linear(part: Part, names: tuple[str, ...]) -> tuple[int, int] | None:
    children = (part.by_name[name] for name in names if name in part.by_name)
    return next((sizes for child in children if (sizes := linear_sizes(child)) is not None), None)


def _fact(part: Part, model: Model, names: tuple[str, ...]) -> int | None:
    """The first of these attributes that is a number, of the part or else of its parent."""
    for owner in (part, model.parent(part)):
        for name in names if owner is not None else ():
            value = owner.facts.get(name) if owner is not None else None
            if type(value) is int and value > 0:
                return value
    return None
