"""Closed forms as values: a count in symbols, where each part of it comes from, and the proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from msgspec import Struct

from tonnage.analyses.expressions import parse
from tonnage.analyses.known import Known
from tonnage.errors import BadOption


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

    `path` has the numbers of the repeats folded, and parts of one size beside each other are one component
    ("encoder.layer.{0-11}.attention.self.{query,key,value}"); `parameters` are the names under it, as its modules call
    them ("weight", "bias"). `formula` counts it once in symbols ("3*(H^2 + H)"), `substituted` is the same with numbers
    ("3*(768^2 + 768)"), `times` how often it occurs, in symbols ("L"; "1" for once). `each` and `repeats` are the
    numbers: `total` is their product. `arithmetic` is the same as a textbook counts this kind of module, in its own
    letters ("(k*k*C_in + 1)*C_out"; "" where there is no usage), and `worked` that with numbers ("(3*3*64 + 1)*128").
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
    arithmetic: str = ""
    worked: str = ""


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

        form.evaluate(hidden_size=1024, num_hidden_layers=24)

    `formula` is the total in `symbols`; "" where no polynomial of the sizes that it was built from counts this
    architecture (`reason` says why), and then the components have the arithmetic of each type of module instead.
    `held` names sizes that the formula does not vary, each with the reason, and `settings` the flags that decide what
    there is to count, with their values here: it holds for these. `moves` names sizes that stand in the formula
    through another one, in proportion to which they have to move ({"word_embed_proj_dim": "hidden_size"}). `whole`
    are the parts of the formula that have to be whole numbers, `apart` pairs of sizes that must not be equal, because
    the architecture is another one where they are, and `least` sizes below which it is. `switches` are flags that add
    or take away something: where one has the other value than in `settings`, its formula is to be added. `aliases` are
    further names of sizes.
    """

    formula: str
    substituted: str
    latex: str
    total: int
    symbols: list[Symbol]
    components: list[Component]
    proofs: list[Proof]
    sizes: dict[str, int]
    held: dict[str, str]
    settings: dict[str, str]
    moves: dict[str, str]
    whole: list[str]
    apart: list[tuple[str, str]] = []
    least: dict[str, int] = {}
    switches: dict[str, str] = {}
    aliases: dict[str, str] = {}
    reason: str = ""
    known: Known = "exact"

    @property
    def proved(self) -> bool:
        return bool(self.proofs) and all(proof.holds for proof in self.proofs)

    @property
    def arithmetic(self) -> str:
        """The total in numbers, module by module as a textbook counts them: "(784 + 1)*128 + (128 + 1)*10"."""
        return " + ".join(_summand(component) for component in self.components)

    def evaluate(self, **fields: Any) -> int:
        """The number of parameters with these fields of the config, all others as they are in this model.

        Fields go by their names in the config ("hidden_size", "text_config.hidden_size", "depths[2]"; a list or a part
        of the config may be given whole) or by their symbols. BadOption for a field that the formula does not vary, or
        for sizes at which it does not hold.
        """
        given = dict(_flat(fields))
        switched = [name for name in self.switches if str(given.get(name, self.settings[name])) != self.settings[name]]
        if len(switched) > 1:
            raise BadOption(
                f"{' and '.join(switched)} are both other than in this model, and what they add together is not known",
                hint="switch one at a time, or derive the formula for a config with these settings",
            )
        sizes = {name: value for name, value in given.items() if name not in switched}
        values = self._values(sizes)
        extra = sum((parse(self.switches[name]).evaluate(values) for name in switched), Fraction())
        return round(sum(self.terms(**sizes)) + extra)

    def terms(self, **fields: int) -> list[Fraction]:
        """What each component comes to with these fields, in the order of `components`."""
        values = self._values(fields)
        for text in self.whole:
            value = parse(text).evaluate(values)
            if value.denominator != 1:
                raise BadOption(
                    f"the formula holds where {text} is a whole number, and it would be {value}",
                    hint="choose sizes that divide each other",
                )
        return [parse(c.formula).evaluate(values) * parse(c.times).evaluate(values) for c in self.components]

    def _values(self, fields: Mapping[str, int]) -> dict[str, int]:
        """Every symbol's number: as given, else as it follows from others, else as it is in this model."""
        by_symbol = {symbol.symbol: symbol.field for symbol in self.symbols}
        named = {by_symbol.get(name, name): value for name, value in fields.items()}
        given = {name if name in self.sizes else self.aliases.get(name, name): value for name, value in named.items()}
        for name, value in given.items():
            self._check(name, value, given)
        values = {s.symbol: given.get(s.field, s.value) for s in self.symbols}
        for symbol in self.symbols:
            if symbol.definition and symbol.field not in given:
                values[symbol.symbol] = _whole(symbol.definition, parse(symbol.definition).evaluate(values))
        sizes = {**self.sizes, **given, **{s.field: values[s.symbol] for s in self.symbols}}
        for one, other in self.apart:
            if sizes[one] == sizes[other]:
                raise BadOption(
                    f"the formula holds where {one} and {other} differ, and both are {sizes[one]}",
                    hint="with equal sizes the model is built otherwise: derive the formula for such a config",
                )
        for name, size in self.least.items():
            if sizes[name] < size:
                raise BadOption(
                    f"the formula holds from {name}={size} on, and it would be {sizes[name]}",
                    hint="below that the model is built otherwise: derive the formula for such a config",
                )
        return values

    def _check(self, name: str, value: int, given: Mapping[str, int]) -> None:
        if name in self.settings:
            if str(value) != self.settings[name]:
                raise BadOption(
                    f"the formula holds for {name}={self.settings[name]}, not {value!r}",
                    hint="derive it anew for a config with that setting",
                )
            return
        if name not in self.sizes:
            known = ", ".join(symbol.field for symbol in self.symbols)
            raise BadOption(f"the formula knows no field {name!r}", hint=f"it varies {known}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadOption(f"{name} must be a whole number of at least 1, not {value!r}", hint=f"try {name}=1")
        if name in self.held and value != self.sizes[name]:
            raise BadOption(
                f"the formula holds for {name}={self.sizes[name]} alone: {self.held[name]}",
                hint="derive it anew for a config with that size",
            )
        for follower, leader in self.moves.items():
            before, after = self.sizes[follower] * given.get(leader, self.sizes[leader]), self.sizes[leader]
            if name in (follower, leader) and given.get(follower, self.sizes[follower]) * after != before:
                raise BadOption(
                    f"the formula holds where {follower} and {leader} stay in proportion",
                    hint=f"give both, {follower} = {leader}*{Fraction(self.sizes[follower], after)}",
                )


def _summand(component: Component) -> str:
    worked = component.worked or component.substituted
    if component.repeats == 1:
        return worked
    return f"{component.repeats}*({worked})" if " " in worked else f"{component.repeats}*{worked}"


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Lists by their elements, parts of a config by their fields."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", item) for inner, item in _flat(value))
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
        else:
            yield name, value


def _whole(text: str, value: Fraction) -> int:
    if value.denominator != 1:
        raise BadOption(f"{text} would be {value}, no whole number", hint="choose sizes that divide each other")
    return int(value)


class Step(Struct, frozen=True, kw_only=True):
    """A size that the form holds for in steps: `symbol` less `offset` has to be a multiple of `step`."""

    symbol: str
    step: int
    offset: int = 0

    def __str__(self) -> str:
        less = f" - {self.offset}" if self.offset else ""
        return f"({self.symbol}{less})/{self.step}" if less else f"{self.symbol}/{self.step}"


class ComputeForm(Struct, frozen=True, kw_only=True):
    """The multiply-accumulates of one forward pass in closed form.

        form.evaluate(B=8, S=512)

    `symbols` are the sizes of the input: B samples, S tokens each, T tokens of the decoder, n pixels to a side.
    `steps` limit the sizes for which it holds. `formula` is "" where no polynomial counts the work; `reason` says why.
    """

    formula: str
    latex: str
    symbols: list[Symbol]
    steps: list[Step]
    proofs: list[Proof]
    held: dict[str, str]
    reason: str = ""
    known: Known = "exact"

    @property
    def proved(self) -> bool:
        return bool(self.proofs) and all(proof.holds for proof in self.proofs)

    def evaluate(self, **sizes: int) -> int:
        """Forward MACs at these sizes, by symbol or by name (`B` or `batch`); all others as they were recorded."""
        if not self.formula:
            raise BadOption(f"the work has no closed form: {self.reason}", hint="weigh it at that size")
        by_name = {symbol.field: symbol.symbol for symbol in self.symbols}
        values = {symbol.symbol: symbol.value for symbol in self.symbols}
        for name, size in sizes.items():
            letter = by_name.get(name, name)
            if letter not in values:
                known = ", ".join(f"{s.symbol} ({s.field})" for s in self.symbols)
                raise BadOption(f"the formula has no {name!r}", hint=f"it has {known}")
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise BadOption(f"{name} must be a whole number of at least 1, not {size!r}", hint=f"try {name}=1")
            values[letter] = size
        for step in self.steps:
            if (values[step.symbol] - step.offset) % step.step:
                raise BadOption(
                    f"the formula holds where {step} is a whole number, and {step.symbol} is {values[step.symbol]}",
                    hint="weigh it at that size",
                )
        return int(parse(self.formula).evaluate(values))
