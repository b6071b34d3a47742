"""The closed form of a model's parameter count, from a way to ask what it has at other sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import sympy

from tonnage.analyses.arithmetic import Textbook, textbook
from tonnage.analyses.closed_form.definitions import Definition
from tonnage.analyses.closed_form.derive import total_of
from tonnage.analyses.closed_form.dividing import covered
from tonnage.analyses.closed_form.latex import latex_of
from tonnage.analyses.closed_form.owners import Own, beside_each_other, by_module
from tonnage.analyses.closed_form.search import Question, Result, search
from tonnage.analyses.closed_form.survey import Table
from tonnage.analyses.closed_form.symbols import letters
from tonnage.analyses.closed_form.writing import collected, written
from tonnage.analyses.forms import Component, ParameterForm, Proof, Symbol
from tonnage.analyses.paths import folded
from tonnage.trace import Module


def derive_form(question: Question, modules: Sequence[Module]) -> ParameterForm:
    """The closed form, proved at sizes that it was not derived from; `modules` say what kind each component is."""
    return _Writer(question, search(question), modules).form()


class _Writer:
    """Puts what was found into letters."""

    def __init__(self, question: Question, result: Result, modules: Sequence[Module]) -> None:
        self.question = question
        self.found, self.held, self.trials, self.limits, self.reason = result
        self.modules = {module.path: module for module in modules}
        self.derived = self.found.derived
        self.sizes = self.found.sizes
        self.letters = letters(self._fields())
        self.values = {letter: self.sizes[name] for name, letter in self.letters.items()}
        self.full = self.derived.survey.at({})

    def form(self) -> ParameterForm:
        components = self._components()
        pieces = [(self._lettered(part.times), self._lettered(part.each)) for part in self.derived.parts]
        batch = sympy.Symbol(self.letters["B"]) if "B" in self.letters else None
        formula = collected(pieces, outer=batch) if self._used() else ""
        return ParameterForm(
            formula=formula,
            substituted=collected(pieces, self.values, outer=batch),
            latex=latex_of(formula),
            total=total_of(self._table()),
            symbols=list(self._symbols()),
            components=components,
            proofs=[Proof(changes=t.changes, predicted=t.predicted, counted=t.counted) for t in self.trials],
            sizes=dict(self.sizes),
            held=dict(self.held),
            settings={name: str(self.question.flags[name]) for name in self.limits.switches},
            moves={f: d.field for d in self.derived.directions for f in d.moved if f != d.field},
            whole=self._whole(),
            apart=self.limits.apart,
            least=dict(self.found.least),
            switches={n: written(self._lettered(e)) for n, e in self.limits.switches.items() if e is not None},
            aliases={n: size for n, size in self.question.aliases.items() if size in self.sizes},
            reason="" if formula else self._reason(),
        )

    def _table(self) -> Table:
        assert self.full is not None, "the subject itself was built"
        return self.full

    def _used(self) -> set[str]:
        """The fields in the formula itself."""
        symbols = set().union(*(e.free_symbols for p in self.derived.parts for e in (p.times, *p.numbers)))
        return {name for name, symbol in self.derived.symbols.items() if symbol in symbols}

    def _fields(self) -> list[str]:
        """The fields that need letters, as the config lists them, those of definitions and divisions included."""
        used = self._used()
        defining = {f for name in used & self.found.definitions.keys() for f in self.found.definitions[name].symbols}
        dividing = {name for pair in self.found.dividing for name in pair}
        return [name for name in self.sizes if name in used | defining | dividing]

    def _symbols(self) -> Iterator[Symbol]:
        for name in self._fields():
            definition = self.found.definitions.get(name)
            yield Symbol(
                symbol=self.letters[name],
                field=name,
                value=self.sizes[name],
                definition=self._defined(definition) if definition else "",
            )

    def _defined(self, definition: Definition) -> str:
        text = written(self._lettered(definition.expression))
        return f"{definition.rounding}({text})" if definition.rounding else text

    def _lettered(self, expression: sympy.Expr) -> sympy.Expr:
        """With letters for the names of fields."""
        return expression.xreplace({s: sympy.Symbol(self.letters[str(s)]) for s in expression.free_symbols})

    def _whole(self) -> list[str]:
        fractions = {
            e: None
            for part in self.derived.parts
            for e in (part.times, *part.numbers)
            if sympy.denom(sympy.together(e)) != 1 and not covered(e, self.found.dividing)
        }
        divided = [f"{self.letters[whole]}/{self.letters[divisor]}" for whole, divisor in self.found.dividing]
        return [*(written(self._lettered(e)) for e in fractions), *divided]

    def _reason(self) -> str:
        if not self.question.sizes:
            return "nothing says which sizes the model was built from"
        return self.reason or "no size that it was built from could be varied"

    def _components(self) -> list[Component]:
        return [self._component(siblings) for siblings in beside_each_other(self._by_module())]

    def _by_module(self) -> list[Own]:
        order = {name: place for place, name in enumerate(self._table())}
        return sorted(by_module(self.derived.parts), key=lambda own: order[own.parts[0].members[0]])

    def _component(self, siblings: Sequence[Own]) -> Component:
        own, count = siblings[0], len(siblings)
        each = self._lettered(sympy.Add(*(part.each for part in own.parts)))
        shapes = {part.members[0].rpartition(".")[2]: self._table()[part.members[0]] for part in own.parts}
        module = self.modules.get(own.owners[0])
        usual = textbook(module or _NO_MODULE, shapes)
        number = count * sum(map(prod, shapes.values()))
        repeats = len(own.owners)
        return Component(
            path=folded([owner for sibling in siblings for owner in sibling.owners]),
            kind=module.type if module is not None else "",
            parameters=list(shapes),
            formula=_several(count, written(each)),
            substituted=_several(count, written(each, self.values), like=written(each)),
            times=written(self._lettered(own.times)),
            each=number,
            repeats=repeats,
            total=number * repeats,
            **_usual(count, usual),
        )


def _several(count: int, text: str, *, like: str = "") -> str:
    """`count` times `text`, in brackets where it is a sum or has a number of its own; `like` the formula it is of."""
    if count == 1:
        return text
    pattern = like or text
    return f"{count}*({text})" if " " in pattern or pattern[0].isdecimal() else f"{count}*{text}"


def _usual(count: int, usual: Textbook) -> dict[str, str]:
    letters = _several(count, usual.formula) if usual.formula else ""
    return {"arithmetic": letters, "worked": _several(count, usual.worked, like=usual.formula or "1")}


_NO_MODULE = Module("", "")
