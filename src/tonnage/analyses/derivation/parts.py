"""What a model is made of, as fine as people count it: weights and biases apart, with the words that name them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Literal

from tonnage.analyses.expressions import Expression, Sum, parse
from tonnage.analyses.forms import Component
from tonnage.errors import BadOption

BLOCK = re.compile(r"(?:.*?[._])?(?:(?P<one>\d+)|\{(?P<several>[\d,-]+)\})\.")
"""The path of something in a list of blocks, up to its place in the outermost: layers.{0-11}. or encoder_layer_0."""
PATH_WORDS = (
    (r".*norm.*embed.*|.*embed.*norm.*", {"norm", "embedding"}),
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
    """The weights or the biases of `count` modules of one size, of `all` in the model: `each` elements in one.

    `path` is that of the component that has the weights, also for biases; `together` is the size of one with all its
    parts. `out` is the length that a bias would have where there is none, 0 if that is not known.
    """

    path: str
    what: Literal["weight", "bias"]
    each: int
    count: int
    all: int
    roles: frozenset[str]
    component: Component = field(compare=False, repr=False)
    together: int = 0
    out: int = 0

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
    """The parts of all components, in their order; together they have as many elements.

    Biases of one length that are a component of their own go to the weights of their modules.
    """
    found = [part for c in components if not _is_bias(c) for part in _split(c)]
    owners = {path: part for part in found if part.what == "weight" for path in expanded(part.path)}
    found += [bias for c in components if _is_bias(c) for bias in _given_to_owners(c, owners)]
    together: Counter[str] = Counter()
    for part in found:
        together[part.path] += part.each
    order = {c.path: number for number, c in enumerate(components)}
    return sorted((replace(p, together=together[p.path]) for p in found), key=lambda p: order[p.path])


def _is_bias(component: Component) -> bool:
    return all("bias" in name for name in component.parameters) and "embedding" not in component.kind.lower()


def _given_to_owners(component: Component, owners: dict[str, Part]) -> Iterator[Part]:
    paths = expanded(component.path)
    each, left = divmod(component.total, len(paths))
    if left or not all(path in owners for path in paths):
        yield from _split(component)
        return
    for owner in dict.fromkeys(owners[path] for path in paths):
        count = sum(owners[path] == owner for path in paths)
        yield replace(owner, what="bias", each=each, count=count, all=count, out=0)


def _split(component: Component) -> Iterator[Part]:
    """The weights of `component` and its biases; siblings that are one component are counted one by one."""
    roles = roles_of(component)
    count = len(expanded(component.path))
    if component.total % count or count % component.repeats:
        count = component.repeats
    each = component.total // count
    has_bias = any("bias" in name for name in component.parameters)
    bias = _bias_of(component, each, roles) if has_bias and len(component.parameters) > 1 else 0
    out = 0 if has_bias else _out_of(component, each, roles)
    yield Part(component.path, "weight", each - bias, count, count, roles, component, out=out)
    if bias:
        yield Part(component.path, "bias", bias, count, count, roles, component)


def expanded(path: str) -> list[str]:
    """The paths that are folded into one.

    >>> expanded("layer.{0-2}.{q,k}")
    ['layer.0.q', 'layer.0.k', 'layer.1.q', 'layer.1.k', 'layer.2.q', 'layer.2.k']
    """
    folded = re.search(r"\{([^{}]*)\}", path)
    if folded is None:
        return [path]
    names: list[str] = []
    for name in folded[1].split(","):
        run = re.fullmatch(r"(\d+)-(\d+)", name)
        names += map(str, range(int(run[1]), int(run[2]) + 1)) if run else [name]
    before, after = path[: folded.start()], path[folded.end() :]
    return [f"{before}{name}{rest}" for name in names for rest in expanded(after)]


def blocks_of(path: str) -> int:
    """How many blocks of the outermost list `path` is in.

    >>> blocks_of("encoder.layer.{0-11}.attention.self.{query,key,value}"), blocks_of("pooler.dense")
    (12, 1)
    """
    found = BLOCK.match(path)
    return len(expanded(found[0])) if found else 1


def roles_of(component: Component) -> frozenset[str]:
    """What `component` is, in the words of `PATH_WORDS` and `KIND_WORDS`.

    Only the outermost encoder or decoder names the half of a model: decoder.layers.0.encoder_attn is the decoder's.
    """
    segments = dict.fromkeys(segment for path in expanded(component.path) for segment in path.lower().split("."))
    roles: set[str] = set()
    for segment in segments:
        found = next((words for pattern, words in PATH_WORDS if re.fullmatch(pattern, segment)), set())
        roles |= found - ({"encoder", "decoder"} if roles & {"encoder", "decoder"} else set())
    roles |= {role for pattern, role in KIND_WORDS if re.fullmatch(pattern, component.kind.lower())}
    if BLOCK.match(component.path):
        roles.add("block")
    elif "norm" in roles and "embedding" not in roles:
        roles.add("final")
    if roles >= {"block", "linear"} and not roles & {"attention", "head", "embedding"}:
        roles.add("ffn")  # BERT's second one is called output.dense
    return frozenset(roles)


def _bias_of(component: Component, each: int, roles: frozenset[str]) -> int:
    """The biases among the `each` parameters of one module, from its arithmetic; 0 where that does not tell.

    A bias is the smallest addend, as in (3*3*64 + 1)*128 and 768*3072 + 3072; in a norm it is half.
    """
    if "norm" in roles:
        return each // 2
    share = _smallest_share(component.worked) or _smallest_share(component.substituted)
    return int(share * each) if (share * each).denominator == 1 else 0


def _smallest_share(text: str) -> Fraction:
    """The share that the smallest addend has in the sum that `text` is, or has as a factor; 0 if there is none."""
    try:
        expression = parse(text)
        sums = [factor for factor in _factors(expression) if isinstance(factor.tree, Sum)]
        values = [addend.evaluate({}) for addend in sums[0].addends] if len(sums) == 1 else [Fraction()]
    except BadOption:
        return Fraction()
    return min(values) / sum(values) if min(values) > 0 else Fraction()


def _factors(expression: Expression) -> list[Expression]:
    """What is multiplied, through brackets that only hold a product: 3*((in + 1)*out)."""
    factors = expression.factors
    return factors if factors == [expression] else [inner for factor in factors for inner in _factors(factor)]


def _out_of(component: Component, each: int, roles: frozenset[str]) -> int:
    """The outputs of a module without biases: the last factor, as a textbook writes in*out and k*k*C_in*C_out."""
    if "norm" in roles:
        return each
    sizes = [int(number) for number in re.findall(r"\d+", component.worked)]
    is_product = re.fullmatch(r"\d+(\*\d+)+", component.worked) and prod(sizes) % each == 0
    return sizes[-1] if is_product and roles & {"linear", "conv"} else 0
