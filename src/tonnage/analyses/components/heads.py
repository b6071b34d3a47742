"""What stands at the end of a model: scores for tokens or classes, and what is pooled for them."""

from __future__ import annotations

from tonnage.analyses.components.embeddings import vocabulary_table
from tonnage.analyses.components.explanation import Explanation, said
from tonnage.analyses.components.plain import activation_name
from tonnage.analyses.describing import has_bias, linear_sizes
from tonnage.analyses.parts import Model, Part

_CLASSIFIERS = {"classifier", "fc", "head", "heads", "score"}


def language_model_head(part: Part, model: Model) -> Explanation | None:
    """A linear layer with an output for each row of the token embedding."""
    sizes, weight = linear_sizes(part), part.tensor("weight")
    table = vocabulary_table(model)
    if sizes is None or weight is None or table is None:
        return None
    width, vocabulary = sizes
    if vocabulary != table.tensors[0].shape[0]:
        return None
    if weight.tied_to:
        return said("tied_language_model_head", width=width, vocabulary=vocabulary, same=weight.tied_to)
    return said("language_model_head", width=width, vocabulary=vocabulary, parameters=part.own_parameters)


def pooler(part: Part, model: Model) -> Explanation | None:
    """BERT's: the vector of the first token through a square linear layer and an activation."""
    linear = next((child for child in part.children if linear_sizes(child)), None)
    sizes = linear_sizes(linear) if linear is not None else None
    name = next((n for child in part.children if (n := activation_name(child))), None)
    if part.name != "pooler" or not part.type.endswith("Pooler") or sizes is None or name is None:
        return None
    if sizes[0] != sizes[1] or len(part.children) != 2:
        return None
    return said("pooler", width=sizes[0], activation=name, parameters=part.parameters)


def classifier(part: Part, model: Model) -> Explanation | None:
    """The last linear layer of the model, under a name that says what it is for."""
    sizes = linear_sizes(part)
    if sizes is None or part.path.split(".")[0] not in _CLASSIFIERS or part is not _last_linear(model):
        return None
    width, classes = sizes
    inside = f"{width} + 1" if has_bias(part) else str(width)
    arithmetic = f"({inside})*{classes}" if has_bias(part) else f"{inside}*{classes}"
    return said("classifier", width=width, classes=classes, arithmetic=arithmetic, parameters=part.own_parameters)


def _last_linear(model: Model) -> Part | None:
    linears = [part for part in model.root.walk() if linear_sizes(part)]
    return linears[-1] if linears else None
