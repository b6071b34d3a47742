"""From the name of an operator to the rule of its family."""

from __future__ import annotations

from tonnage.costs import (
    attention,
    convolution,
    movement,
    norm,
    pointwise,
    pooling,
    products,
    recurrent,
    reduction,
)
from tonnage.costs.cost import Cost, Rule, Unknown
from tonnage.trace import Op

NAMESPACES = ("aten", "prims")
_FOREACH = "_foreach_"

_FAMILIES = (products, convolution, attention, recurrent, norm, pointwise, reduction, pooling, movement)
_RULES: dict[str, Rule] = {name: rule for family in _FAMILIES for name, rule in family.RULES.items()}


def cost(op: Op) -> Cost | Unknown:
    """What `op` costs, by its name and the shapes of its tensors.

    >>> from tonnage.trace import TensorSpec
    >>> bias, x, weight, y = (TensorSpec(shape, "float32") for shape in ((16,), (4, 8), (8, 16), (4, 16)))
    >>> cost(Op("aten.addmm.default", 0, 1, (bias, x, weight), (y,)))
    Cost(kind='matrix product', macs=512, products=64, bias=64, flops=0, again=None, bytes_moved=960)
    >>> cost(Op("mylib.scan.default", 0, 1, (x,), (y,)))
    Unknown(reason='no rule for this operator of the library mylib')

    The inplace and `out` variants of an operator cost what it does.
    """
    namespace, _, rest = op.name.partition(".")
    name, _, overload = rest.partition(".")
    rule = rule_of(namespace, name)
    if rule is None:
        library = f" of the library {namespace}" if namespace not in NAMESPACES else ""
        return Unknown(f"no rule for this operator{library}")
    if overload.endswith("out") and op.outputs:
        op = op._replace(inputs=op.inputs[: -len(op.outputs)])
    found = rule(op)
    if isinstance(found, Unknown):
        return found
    base = base_name(name)
    return found._replace(bytes_moved=movement.bytes_moved(op, base, in_place=base != name))


def base_name(name: str) -> str:
    """The name without the underscore of an in-place variant.

    >>> base_name("add_"), base_name("_foreach_add_"), base_name("__iand__")
    ('add', '_foreach_add', '__iand__')
    """
    return name if name.endswith("__") else name.removesuffix("_")


def rule_of(namespace: str, name: str) -> Rule | None:
    """The rule for `namespace`'s operator `name` ("aten", "addmm"), in place or not; None if there is none."""
    if namespace not in NAMESPACES:
        return products.OF_LIBRARIES.get(f"{namespace}.{name}")
    base = base_name(name)
    if base in _RULES or not base.startswith(_FOREACH):
        return _RULES.get(base)
    single = base.removeprefix(_FOREACH)
    if single in pointwise.NAMES:
        return pointwise.on_lists
    if single in reduction.NAMES:
        return reduction.on_lists
    return _RULES[single] if single in movement.NAMES else None
