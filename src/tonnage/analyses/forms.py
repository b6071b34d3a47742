"""Closed forms as values: a count in symbols, where each part of it comes from, and the proof."""

from __future__ import annotations

from msgspec import Struct

from tonnage.analyses.known import Known


class Symbol(Struct, frozen=True, kw_only=True):
    """A letter of a formula: the field of the config that it stands for, and its value in this model.

    `definition` is not "" where the field follows from others unless it is given: "H/h" for a head size.
    """

    symbol: str
    field: str
    value: int
    definition: str = ""


class Component(Struct, frozen=True, kw_only=True):
    """One kind of part of a model, all its repeats together.

    `path` has the numbers of the repeats folded ("encoder.layer.{0-11}.attention.self.query"); `parameters` are the
    names under it, as its modules call them ("weight", "bias"). `formula` counts one of them in symbols ("H^2 + H"),
    `substituted` is the same with numbers ("768^2 + 768"), `times` how often it occurs, in symbols ("L"; "1" for once).
    `each` and `repeats` are the numbers: `total` is their product.
    """

    path: str
    kind: str
    parameters: list[str]
    formula: str
    substituted: str
    times: str
    each: int
    repeats: int
    total: int


class Proof(Struct, frozen=True, kw_only=True):
    """A configuration that the formula was not derived from: what it predicts there, and what was counted."""

    changes: dict[str, int]
    predicted: int
    counted: int

    @property
    def holds(self) -> bool:
        return self.predicted == self.counted


class ParameterForm(Struct, frozen=True, kw_only=True):
    """Why a model has exactly so many parameters.

    `formula` is the total in `symbols`; "" where no polynomial of the config's fields counts this architecture
    (`reason` says why), and then the components have the arithmetic of each type of module instead. `held` names the
    fields that the formula does not vary ("layer_types"), with their values: it holds for these.
    """

    formula: str
    substituted: str
    latex: str
    total: int
    symbols: list[Symbol]
    components: list[Component]
    proofs: list[Proof]
    held: dict[str, str]
    reason: str = ""
    known: Known = "exact"
