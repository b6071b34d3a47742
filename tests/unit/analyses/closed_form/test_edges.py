"""Below which size a form does not hold."""

from __future__ import annotations

import sympy

from tonnage.analyses.closed_form.derive import derive
from tonnage.analyses.closed_form.edges import least_sizes


def found(model):
    derived = derive(model.ask, model.sizes)

    def predict(changes):
        sizes = {**model.sizes, **changes}
        return int(derived.total.xreplace({s: sympy.Integer(sizes[name]) for name, s in derived.symbols.items()}))

    return least_sizes(derived, predict)


def test_a_form_that_holds_from_one_on(small_encoder):
    assert found(small_encoder) == {}


def test_a_convolution_that_a_reduction_of_one_does_without(toy):
    def table(s):
        reduction = {"reduce": (s["r"], s["r"], s["H"])} if s["r"] > 1 else {}
        return {"mix": (s["H"], s["H"]), **reduction}

    assert found(toy({"H": 8, "r": 4}, table)) == {"r": 2}


def test_a_head_that_has_two_layers_at_least(toy):
    """The first and the last whatever the number is, the others between them: max(n, 2) - 2."""

    def table(s):
        inner = {f"layers.{n}.w": (s["H"], s["H"]) for n in range(max(s["num_layers"], 2) - 2)}
        return {"first": (3, s["H"]), **inner, "last": (s["H"], 4)}

    assert found(toy({"H": 8, "num_layers": 4}, table)) == {"num_layers": 2}


def test_what_cannot_be_built_is_no_edge(toy):
    assert found(toy({"H": 8}, lambda s: {"w": (s["H"],)} if s["H"] > 1 else None)) == {}
