"""Which parts of a model a term of a derivation counts: ways to find them, the surest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, prod

from tonnage.analyses.derivation.explaining import WHOLE, Suspect, Written, explain, omitted
from tonnage.analyses.derivation.labels import roles_of_label, variants
from tonnage.analyses.derivation.parts import Part
from tonnage.analyses.derivation.pool import Pool, subsets, torn
from tonnage.analyses.derivation.results import Term
from tonnage.analyses.expressions import Expression, Product, Sum, parse
from tonnage.analyses.forms import ParameterForm
from tonnage.errors import BadOption

NEAR = 4
"""A term of less than a quarter of what its label names, or more than four times that, counts something else."""
SCOPES = ({"encoder", "block"}, {"decoder", "block"}, {"block"}, {"embedding"}, *({role} for role in WHOLE))
"""What people count in one line."""
CLOSE = Fraction(1, 4)
"""Share by which a term may be off, for reasons that are not found, and still be taken for a count of something."""


@dataclass(frozen=True)
class Model:
    sizes: list[int]
    elsewhere: list[dict[str, Fraction]]


@dataclass
class Row:
    """A term on its way: what it says, what its label may mean, what it was found to count, and why it is wrong.

    `repeats` are the factors that may be how often it occurs. Not `alone` means that other terms have labels that say
    the same ("conv 1", "conv 2"): each then counts some of what it names.
    """

    term: Term
    written: Written
    claimed: int
    repeats: list[int]
    meant: list[list[Part]]
    alone: bool = True
    parts: list[Part] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    adopted: list[Part] = field(default_factory=list)
    settled: bool = False

    @property
    def value(self) -> int:
        return int(self.written.value)

    @property
    def has_words(self) -> bool:
        return bool(roles_of_label(self.term.label))

    @property
    def targets(self) -> list[int]:
        return list(dict.fromkeys([self.value, self.claimed]))

    def lays_claim_to(self, part: Part) -> bool:
        """Whether the label names `part`, and as often as the term occurs."""
        named = any(p.key == part.key for p in self.meant[-1]) if self.meant else False
        return named and part.count % int(self.written.times) == 0

    def adopt(self, pool: Pool, parts: Sequence[Part]) -> None:
        """Takes what it should have counted."""
        pool.take(parts)
        self.parts += parts
        self.adopted += parts

    def settle(self, pool: Pool, parts: Sequence[Part], suspects: Sequence[Suspect] = ()) -> None:
        pool.take(parts)
        self.parts, self.suspects, self.settled = list(parts), list(suspects), True


def row_of(term: Term, values: Mapping[str, int], own: frozenset[str], parts: Sequence[Part]) -> Row:
    times = _whole(term, term.times, parse(term.times, values).evaluate(values))
    if times < 1:
        raise BadOption(f"term `{term.label}` occurs {times} times", hint="write how often it occurs, 1 or more")
    expression = parse(term.formula, values)
    value = _whole(term, term.formula, expression.evaluate(values))
    outside = _outside(expression, values)
    return Row(
        term=term,
        written=Written(expression, values, times, own),
        claimed=times * (value if term.claimed is None else term.claimed),
        repeats=list(dict.fromkeys([times * outside, times, 1])),
        meant=variants(term.label, parts),
    )


def _whole(term: Term, text: str, value: Fraction) -> int:
    if value.denominator != 1:
        raise BadOption(
            f"`{text}` of term `{term.label}` comes to {value}, no whole number",
            hint="a count is whole: use // or ceil()",
        )
    return int(value)


def _outside(expression: Expression, values: Mapping[str, int]) -> int:
    """The factor before the brackets of a sum: the 12 of 12*(4H^2 + 4H) is how often it occurs."""
    tree = expression.tree
    if not (isinstance(tree, Product) and all(sign == "*" for sign, _ in tree.parts)):
        return 1
    others = [Expression(node).evaluate(values) for _, node in tree.parts if not isinstance(node, Sum)]
    outside = prod(others, start=Fraction(1))
    return int(outside) if len(others) == len(tree.parts) - 1 and outside.denominator == 1 and outside >= 1 else 1


def sizes_of(form: ParameterForm) -> list[int]:
    """The numbers that this model is made of."""
    numbers = {symbol.value for symbol in form.symbols}
    for component in form.components:
        numbers |= {int(number) for number in re.findall(r"[0-9]+", f"{component.substituted} {component.worked}")}
    return sorted(number for number in numbers if number > 1)


def _by_label(row: Row, pool: Pool, model: Model) -> None:
    """All that the label names, or all of it but what people leave out together, if the size is right."""
    for target in row.targets:
        for variant in row.meant:
            left = pool.of(variant)
            lacking = omitted(left, target, row.written) if left == variant else None
            if lacking is not None:
                row.settle(pool, [part for part in left if part not in lacking])
                return


def _by_size_within_label(row: Row, pool: Pool, model: Model) -> None:
    if row.meant:
        _by_subset(row, pool, pool.of(row.meant[-1]))


def _by_component(row: Row, pool: Pool, model: Model) -> None:
    """One component of the right size, best one of the same formula; not for a label with words, as in `_by_size`."""
    if not row.has_words:
        found = [parts for target in row.targets for parts in _components(pool.all) if size_of(parts) == target]
        if found:
            row.settle(pool, max(found, key=lambda parts: _is_formula_of(row, parts, model)))


def _by_scope(row: Row, pool: Pool, model: Model) -> None:
    """All blocks, all embeddings and the like, or all but what people leave out together."""
    if not row.has_words:
        for target in row.targets:
            for parts in filter(None, _scopes(pool.all)):
                if (lacking := omitted(parts, target, row.written)) is not None:
                    row.settle(pool, [part for part in parts if part not in lacking])
                    return


def _by_size(row: Row, pool: Pool, model: Model) -> None:
    """Anything of the right size; not for a label with words, which would be given what it does not name."""
    if not row.has_words:
        _by_subset(row, pool, pool.all)


def _by_subset(row: Row, pool: Pool, parts: Sequence[Part]) -> None:
    for target in row.targets:
        found = subsets(parts, target, whole_lists=row.alone)
        likely = [chosen for chosen in found if torn(chosen) <= (len({part.path for part in chosen}) == 1)]
        if likely or (found and row.meant):
            row.settle(pool, (likely or found)[0])
            return


def _is_formula_of(row: Row, parts: Sequence[Part], model: Model) -> bool:
    """Whether the term has the value of this component at other sizes as well."""
    component = parts[0].component
    try:
        formula, times = parse(component.formula), parse(component.times)
        return all(row.written.at(at) == formula.evaluate(at) * times.evaluate(at) for at in model.elsewhere)
    except BadOption:
        return False


def _by_cause(row: Row, pool: Pool, model: Model) -> None:
    """What the label names, if mistakes that people make explain the difference."""
    for variant in row.meant if row.alone else []:
        parts = pool.of(variant)
        suspects = _explained(row, parts, model) if parts else None
        if suspects is not None:
            row.settle(pool, parts, suspects)
            return


def _explained(row: Row, parts: Sequence[Part], model: Model) -> list[Suspect] | None:
    """The causes of the difference, in the term or in how often it occurs; None if they are not found."""
    if _is_near(row.value, parts):
        suspects = explain(row.written, parts, model.sizes)
        if suspects is not None:
            return suspects
    return _other_repeats(row, parts, model)


def _is_near(value: int | Fraction, parts: Sequence[Part]) -> bool:
    return size_of(parts) <= NEAR * value and value <= NEAR * size_of(parts)


def _other_repeats(row: Row, parts: Sequence[Part], model: Model) -> list[Suspect] | None:
    """The term with as many repeats as the model has, if that leaves nothing, or what can be explained."""
    right = gcd(*(part.count for part in parts))
    for repeats in row.repeats:
        written = row.written.scaled(Fraction(right, repeats))
        if repeats == right or written.value.denominator != 1 or not _is_near(written.value, parts):
            continue
        rest = explain(written, parts, model.sizes)
        if rest is not None and len(rest) < 2:
            amount = int(written.value - row.written.value)
            return [Suspect("repeats", amount, found=str(repeats), right=str(right)), *rest]
    return None


def _by_likeness(row: Row, pool: Pool, model: Model) -> None:
    """What is nearest in size: explained if it can be, else close enough not to be something else."""
    candidates = [parts for parts in _candidates(row, pool) if parts]
    explained = [(parts, found) for parts in candidates if (found := _explained(row, parts, model)) is not None]
    if explained:
        row.settle(pool, *min(explained, key=lambda it: (len(it[1]), abs(size_of(it[0]) - row.value))))
        return
    distances = [(abs(size_of(parts) - row.value), parts) for parts in candidates]
    distance, parts = min(distances, key=lambda found: found[0], default=(0, []))
    if parts and distance <= CLOSE * size_of(parts):
        row.settle(pool, parts, [Suspect("unexplained", size_of(parts) - row.value)])


def _candidates(row: Row, pool: Pool) -> Iterator[list[Part]]:
    """Sets of parts that a person may have counted: of the label if it has words, else of the model."""
    left = pool.all
    if row.has_words:
        left = pool.of(row.meant[-1]) if row.meant else []
        yield from map(pool.of, row.meant)
    else:
        yield from _scopes(left)
    for parts in _components(left):
        for count in {1, row.repeats[0], parts[0].count}:
            if count <= min(part.count for part in parts):
                yield [part.times(count) for part in parts]


def _scopes(parts: Sequence[Part]) -> Iterator[list[Part]]:
    for roles in SCOPES:
        yield [part for part in parts if roles <= part.roles and not part.roles - roles >= {"block", "position"}]
    yield list(parts)


def _components(parts: Sequence[Part]) -> Iterator[list[Part]]:
    for path in dict.fromkeys(part.path for part in parts):
        yield [part for part in parts if part.path == path]


def size_of(parts: Iterable[Part]) -> int:
    return sum(part.total for part in parts)


WAYS: tuple[Callable[[Row, Pool, Model], None], ...] = (
    _by_label,
    _by_size_within_label,
    _by_component,
    _by_scope,
    _by_size,
    _by_cause,
    _by_likeness,
)
"""Each settles a term that it finds parts for; all terms are tried by one before the next."""
