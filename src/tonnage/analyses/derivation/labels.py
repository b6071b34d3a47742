"""What a term is about, from the words that a person gave it, in English or Chinese."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tonnage.analyses.derivation.parts import Part

WORDS = (
    (r"(cross|encoder[- ]?decoder|second)[- ]?att\w*|(交叉|编码器[-—]?解码器|第二个?)注意力", {"cross", "attention"}),
    (r"self[- ]?att\w*|自注意力", {"self", "attention"}),
    (r"multi[- ]?head( att\w*)?|\batt(ention|n)?\b|\bmh?a\b|多头(注意力)?|注意力", {"attention"}),
    (r"(layer|rms|batch|group)?[ _-]?norm(s|ali[sz]ation)?\b|\bl\.?n\b|\bbn\b|[层批]?(归一化|规范化)", {"norm"}),
    (r"(token|segment|sentence)[- _]?(type|segment)s?|\bsegments?\b|分段|句段|句子类型|段嵌入|类型嵌入", {"segment"}),
    (r"positions?\w*|\bpos\b|位置", {"position"}),
    (r"vocab\w*|\bwords?\b|\btokens?\b|词表?", {"token"}),
    (r"embeddings?|\bembed\b|嵌入|向量", {"embedding"}),
    (r"feed[- ]?forward|\bffn\b|\bmlp\b|前馈", {"ffn"}),
    (r"\bpool\w*|池化", {"pooler"}),
    (r"(lm|output)?[- _]?heads?\b|classifi\w*|logits?|output layer|输出层|输出头|分类\w?", {"head"}),
    (r"\bconv\w*|卷积", {"conv"}),
    (r"\bfc[\d_]*|fully[- ]connected|\blinear\w*|\bdense\b|全连接|线性", {"linear"}),
    (r"\bq\b.*\bk\b|\bqkv\b|\bqueries\b|\bquery\b|查询", {"attention"}),
    (r"\bbias(es)?\b|偏置", {"bias"}),
    (r"\bfinal\b|\blast\b|最终|最后|末", {"final"}),
    (r"\bencoders?\b|编码器", {"encoder"}),
    (r"\bdecoders?\b|解码器", {"decoder"}),
    (r"\blayers?\b|\bblocks?\b|层|块", {"block"}),
)
SPECIFIC = {"attention", "norm", "segment", "position", "token", "embedding", "ffn", "pooler", "head", "conv", "linear"}

NARROW = SPECIFIC - {"embedding", "norm"}
"""Words for some parts of a block, around which its norms stand."""


def roles_of_label(label: str) -> set[str]:
    """What `label` asks for, each word read once: the norm of "layer norm" is no layer.

    >>> sorted(roles_of_label("decoder cross-attention")), sorted(roles_of_label("编码器层"))
    (['attention', 'cross', 'decoder'], ['block', 'encoder'])
    """
    rest, roles = label.lower().replace("_", " "), set()
    for pattern, words in WORDS:
        if re.search(pattern, rest):
            roles |= words
            rest = re.sub(pattern, " ", rest)
    if roles & {"token", "position", "segment"} or roles & {"attention"}:
        roles.discard("embedding")
    if "norm" not in roles:
        roles.discard("final")
    if roles & SPECIFIC:
        roles.discard("block")
    return roles


def variants(label: str, parts: Sequence[Part]) -> list[list[Part]]:
    """The parts that `label` may mean, the likeliest first; none if it names something that this model has not.

    A model that is all decoder has no part of that name: then the word is not asked for. A norm belongs to the block
    around it; whether people count it to the attention or the feed-forward before it differs, so both are tried.
    """
    wanted = roles_of_label(label)
    biases_alone = "bias" in wanted and "position" not in wanted
    roles = wanted - {"self", "bias"}
    here = {role for role in roles if any(role in part.roles for part in parts)}
    if roles - here - {"encoder", "decoder", "block"} or not (here or biases_alone):
        return []
    chosen = [part for part in parts if here <= part.roles and (part.what == "bias" or not biases_alone)]
    if "self" in wanted:
        chosen = [part for part in chosen if "cross" not in part.roles]
    plain = chosen
    if "position" not in roles:  # one block of several may hold the relative positions of all
        plain = [part for part in chosen if not part.roles >= {"position", "block"}]
    found = [plain] if "embedding" in roles else [plain, chosen]
    if roles & NARROW and "norm" not in roles:
        found.insert(0, [part for part in plain if "norm" not in part.roles])
    return [variant for number, variant in enumerate(found) if variant and variant not in found[:number]]
