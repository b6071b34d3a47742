"""What each component of a model is and does, told by its structure: names and shapes of children, types, attributes.

Not by the class of one model: what is said of BERT's attention is said of any module with queries, keys, values and a
known number of heads. Where that is not sure nothing is said: a wrong sentence is worse than none.
"""

from __future__ import annotations

from tonnage.analyses.components.attention import attention, rotary
from tonnage.analyses.components.blocks import residual_block, stack, transformer_block
from tonnage.analyses.components.convolutions import convolution, patch_embedding, pooling
from tonnage.analyses.components.embeddings import embedding, vision_positions, window_bias
from tonnage.analyses.components.experts import experts, router
from tonnage.analyses.components.explanation import Explainer, Explanation
from tonnage.analyses.components.feedforward import feed_forward
from tonnage.analyses.components.heads import classifier, language_model_head, pooler
from tonnage.analyses.components.plain import activation, dropout, norm
from tonnage.analyses.components.sequences import recurrent, ssm_mixer
from tonnage.analyses.parts import Model, Part

_EXPLAINERS: tuple[Explainer, ...] = (
    embedding,
    window_bias,
    vision_positions,
    patch_embedding,
    convolution,
    pooling,
    norm,
    dropout,
    activation,
    rotary,
    attention,
    router,
    experts,
    feed_forward,
    ssm_mixer,
    recurrent,
    language_model_head,
    pooler,
    classifier,
    residual_block,
    transformer_block,
    stack,
)
"""The first that knows a part says what it is."""


def explain(part: Part, model: Model) -> Explanation | None:
    """What `part` of `model` is and does; None where nothing here is sure of it."""
    if part.same_as:
        return None
    found = (explainer(part, model) for explainer in _EXPLAINERS)
    return next((explanation for explanation in found if explanation is not None), None)


__all__ = ["Explanation", "explain"]
