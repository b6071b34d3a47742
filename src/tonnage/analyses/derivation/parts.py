"""What a model is made of, as fine as people count it: weights and biases apart, with the words that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import combinations
from math import prod
from typing import Literal

from tonnage.analyses.expressions import Expression, Node, Number, Power, Product, Sum, parse
from tonnage.analyses.forms import Component
from tonnage.errors import BadOption

BLOCK_LISTS = re.compile(r"(?P<before>[^{}]*)\.\{\d+-\d+\}")
PATH_WORDS = (
    (r"wpe|.*position.*|pos_embed\w*|relative_attention_bias", {"position", "embedding"}),
    (r"encdecattention|cross_?att\w*|encoder_attn|encoder_attention", {"cross", "attention"}),
    (r".*att(n|ention).*|mixer", {"attention"}),
    (r"shared|wte|word_embeddings?|embed_tokens|tok_embeddings|token_embeddings?|embed_in", {"token", "embedding"}),
    (r"token_type_embeddings?|segment\w*", {"segment", "embedding"}),
    (r"embeddings?|embedder|patch_embed\w*", {"embedding"}),
    (r"pooler", {"pooler"}),
    (r"lm_head|cls|classifier|score|qa_outputs|heads?|predictions", {"head"}),
    (r"ffn|mlp|feed_?forward|densereludense|intermediate|experts?", {"ffn"}),
    (r".*norm.*|ln(_\w+|\d*)", {"norm"}),
    (r"encoder|vision_model", {"encoder"}),
    (r"decoder|text_model", {"decoder"}),
)
KIND_WORDS = (
    (r".*norm.*", "norm"),
    (r".*conv\dd|.*convtranspose\dd", "conv"),
    (r".*linear|conv1d", "linear"),
    (r".*embedding", "embedding"),
)


@dataclass(frozen=True)
class Part:
    """The weights or the biases of one component.

    `count` of its repeats; `sides` are lengths that a bias would have if this component had one.
    """

    path: str
    what: Literal["weight", "bias"]
    each: int
    count: int
    roles: frozenset[str]
    component: Component = field(compare=False, repr=False)
    sides: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """The same for any number of its repeats."""
        return self.path, self.what

    @property
    def total(self) -> int:
        return self.each * self.count

    def times(self, count: int) -> Part:
        return replace(self, count=count)


def parts_of(components: Sequence[Component]) -> list[Part]:
    """The parts of all components, in their order; together they have as many elements."""
    lists = {found["before"] for c in components for found in BLOCK_LISTS.finditer(c.path)}
    return [part for c in components for part in _split(c, roles_of(c, lists))]


def roles_of(component: Component, lists: set[str]) -> frozenset[str]:
    """What `component` is, in the words of `PATH_WORDS` and `KIND_WORDS`; `lists` are the paths of repeated blocks.

    Only the outermost encoder or decoder names the half of a model: decoder.layers.0.encoder_attn is the decoder's.
    """
    segments = [word for segment in component.path.lower().split(".") for word in segment.strip("{}").split(",")]
    roles: set[str] = set()
    for segment in segments:
        found = next((words for pattern, words in PATH_WORDS if re.fullmatch(pattern, segment)), set())
        roles |= found - ({"encoder", "decoder"} if roles & {"encoder", "decoder"} else set())
    roles |= {role for pattern, role in KIND_WORDS if re.fullmatch(pattern, component.kind.lower())}
    if any(component.path.startswith(f"{before}.") for before in lists):
        roles.add("block")
    elif "norm" in roles and "embedding" not in roles:
        roles.add("final")
    if roles >= {"block", "linear"} and not roles & {"attention", "head", "embedding"}:
        roles.add("ffn")  # BERT's second one is called output.dense
    return frozenset(roles)


def blocks_of(path: str) -> int:
    """How many blocks the lists in `path` have together.

    >>> blocks_of("encoder.layer.{0-11}.attention.self.{query,key,value}"), blocks_of("pooler.dense")
    (12, 1)
    """
    return prod(int(last) - int(first) + 1 for first, last in re.findall(r"\.\{(\d+)-(\d+)\}", path))


def _split(component: Component, roles: frozenset[str]) -> Iterator[Part]:
    has_bias = any("bias" in name for name in component.parameters)
    bias = bias_of(component, roles) if has_bias and len(component.parameters) > 1 else 0
    sides = _sides(component, roles) if not has_bias else ()
    yield Part(component.path, "weight", component.each - bias, component.repeats, roles, component, sides)
    if bias:
        yield Part(component.path, "bias", bias, component.repeats, roles, component)


def bias_of(component: Component, roles: frozenset[str]) -> int:
    """The biases among the parameters of one such component, from its arithmetic; 0 where that does not tell.

    A bias is the smaller side of a sum, as in 768*3072 + 3072 and (3*3*64 + 1)*128; in a norm it is half.
    """
    if "norm" in roles:
        return component.each // 2
    try:
        share = _smaller_share(parse(component.substituted))
    except BadOption:
        return 0
    bias = share * component.each
    return int(bias) if bias.denominator == 1 else 0


def _smaller_share(expression: Expression) -> Fraction:
    """The share that the smallest addend of the one sum in `expression` has in it."""
    if isinstance(expression.tree, Sum):
        values = [addend.evaluate({}) for addend in expression.addends]
        whole = sum(values, Fraction())
        return min(values) / whole if whole > 0 and min(values) > 0 else Fraction()
    shares = [_smaller_share(factor) for factor in expression.factors if factor != expression]
    return next((share for share in shares if share), Fraction())


def _sides(component: Component, roles: frozenset[str]) -> tuple[int, ...]:
    """The lengths of a matrix, one of which would be that of its bias: (768, 3072) for 768*3072."""
    if "norm" in roles:
        return (component.each,)
    factors = _literals(component.substituted)
    if len(factors) < 2 or prod(factors) != component.each:
        return ()
    if "conv" in roles:
        return (factors[-1],)
    if "linear" not in roles:
        return ()
    splits = (
        (prod(chosen), component.each // prod(chosen))
        for size in range(1, len(factors))
        for chosen in combinations(factors, size)
    )
    # 512*8*64 is 512 by 512: heads and their size make one side
    return tuple(sorted(set(min(splits, key=max))))


def _literals(text: str) -> list[int]:
    """The numbers that are multiplied in `text`, 512 twice for 512^2; none if it is more than a product of a few."""
    try:
        tree = parse(text).tree
    except BadOption:
        return []
    factors: Sequence[tuple[str, Node]] = tree.parts if isinstance(tree, Product) else [("*", tree)]
    found: list[int] = []
    for sign, node in factors:
        base, times = node, 1
        if isinstance(node, Power) and node.exponent in (Number("2"), Number("3")):
            base, times = node.base, 2 if node.exponent == Number("2") else 3
        if sign != "*" or not isinstance(base, Number) or not base.text.isdigit():
            return []
        found += [int(base.text)] * times
    return found if len(found) <= 6 else []
