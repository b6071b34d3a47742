"""A derivation against a model: which parts each term counts, and what it takes to make all of it right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, prod

from tonnage.analyses.derivation.explaining import WHOLE, Suspect, Written, explain, omitted
from tonnage.analyses.derivation.labels import roles_of_label, variants
from tonnage.analyses.derivation.parts import Part, parts_of
from tonnage.analyses.derivation.pool import Pool, subsets, torn
from tonnage.analyses.derivation.results import (
    Cause,
    Checked,
    CheckedTerm,
    Correction,
    Cover,
    Derivation,
    Term,
    elsewhere,
    symbols_of,
)
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
class _Model:
    sizes: list[int]
    elsewhere: list[dict[str, Fraction]]


@dataclass
class _Row:
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


def check(derivation: Derivation, form: ParameterForm) -> Checked:
    """`derivation` matched to the components of `form`, term by term, and reconciled with its total.

    A term counts the parts that its label names and whose sizes add up to it; else parts that its label names, if the
    difference can be explained or is small; else any parts that add up to it. Each parameter is counted once.
    `BadOption` if a formula cannot be read, names an unknown symbol, or if most terms count nothing of this model.
    """
    values = symbols_of(form, derivation.symbols)
    parts = parts_of(form.components)
    rows = [_row(term, values, frozenset(derivation.symbols), parts) for term in derivation.terms]
    for row in rows:
        row.alone = [other.meant for other in rows].count(row.meant) == 1 or not row.meant
    pool = Pool(parts)
    model = _Model(sizes=sizes_of(form), elsewhere=elsewhere(form))
    for settle in (_by_label, _by_size_within_label, _by_component, _by_scope, _by_size, _by_cause, _by_likeness):
        for row in rows:
            if not row.settled:
                settle(row, pool, model)
    _require_this_model(rows)
    for row in rows:
        if not row.settled:
            row.suspects = [_counts_nothing(row, parts)]
    missing = _adopted(rows, pool)
    return _reconciled(derivation, form, rows, missing)


def _row(term: Term, values: Mapping[str, int], own: frozenset[str], parts: Sequence[Part]) -> _Row:
    times = _whole(term, term.times, parse(term.times, values).evaluate(values))
    if times < 1:
        raise BadOption(f"term `{term.label}` occurs {times} times", hint="write how often it occurs, 1 or more")
    expression = parse(term.formula, values)
    value = _whole(term, term.formula, expression.evaluate(values))
    outside = _outside(expression, values)
    return _Row(
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


# -- what a term counts -------------------------------------------------------------------------------------------


def _by_label(row: _Row, pool: Pool, model: _Model) -> None:
    """All that the label names, or all of it but what people leave out together, if the size is right."""
    for target in row.targets:
        for variant in row.meant:
            left = pool.of(variant)
            lacking = omitted(left, target, row.written) if left == variant else None
            if lacking is not None:
                row.settle(pool, [part for part in left if part not in lacking])
                return


def _by_size_within_label(row: _Row, pool: Pool, model: _Model) -> None:
    if row.meant:
        _by_subset(row, pool, pool.of(row.meant[-1]))


def _by_component(row: _Row, pool: Pool, model: _Model) -> None:
    """One component of the right size, best one of the same formula; not for a label with words, as in `_by_size`."""
    if not row.has_words:
        found = [parts for target in row.targets for parts in _components(pool.all) if _size(parts) == target]
        if found:
            row.settle(pool, max(found, key=lambda parts: _is_formula_of(row, parts, model)))


def _by_scope(row: _Row, pool: Pool, model: _Model) -> None:
    """All blocks, all embeddings and the like, or all but what people leave out together."""
    if not row.has_words:
        for target in row.targets:
            for parts in filter(None, _scopes(pool.all)):
                if (lacking := omitted(parts, target, row.written)) is not None:
                    row.settle(pool, [part for part in parts if part not in lacking])
                    return


def _by_size(row: _Row, pool: Pool, model: _Model) -> None:
    """Anything of the right size; not for a label with words, which would be given what it does not name."""
    if not row.has_words:
        _by_subset(row, pool, pool.all)


def _by_subset(row: _Row, pool: Pool, parts: Sequence[Part]) -> None:
    for target in row.targets:
        found = subsets(parts, target, whole_lists=row.alone)
        likely = [chosen for chosen in found if torn(chosen) <= (len({part.path for part in chosen}) == 1)]
        if likely or (found and row.meant):
            row.settle(pool, (likely or found)[0])
            return


def _is_formula_of(row: _Row, parts: Sequence[Part], model: _Model) -> bool:
    """Whether the term has the value of this component at other sizes as well."""
    component = parts[0].component
    try:
        formula, times = parse(component.formula), parse(component.times)
        return all(row.written.at(at) == formula.evaluate(at) * times.evaluate(at) for at in model.elsewhere)
    except BadOption:
        return False


def _by_cause(row: _Row, pool: Pool, model: _Model) -> None:
    """What the label names, if mistakes that people make explain the difference."""
    for variant in row.meant if row.alone else []:
        parts = pool.of(variant)
        suspects = _explained(row, parts, model) if parts else None
        if suspects is not None:
            row.settle(pool, parts, suspects)
            return


def _explained(row: _Row, parts: Sequence[Part], model: _Model) -> list[Suspect] | None:
    """The causes of the difference, in the term or in how often it occurs; None if they are not found."""
    if _is_near(row.value, parts):
        suspects = explain(row.written, parts, model.sizes)
        if suspects is not None:
            return suspects
    return _other_repeats(row, parts, model)


def _is_near(value: int | Fraction, parts: Sequence[Part]) -> bool:
    return _size(parts) <= NEAR * value and value <= NEAR * _size(parts)


def _other_repeats(row: _Row, parts: Sequence[Part], model: _Model) -> list[Suspect] | None:
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


def _by_likeness(row: _Row, pool: Pool, model: _Model) -> None:
    """What is nearest in size: explained if it can be, else close enough not to be something else."""
    candidates = [parts for parts in _candidates(row, pool) if parts]
    explained = [(parts, found) for parts in candidates if (found := _explained(row, parts, model)) is not None]
    if explained:
        row.settle(pool, *min(explained, key=lambda it: (len(it[1]), abs(_size(it[0]) - row.value))))
        return
    distances = [(abs(_size(parts) - row.value), parts) for parts in candidates]
    distance, parts = min(distances, key=lambda found: found[0], default=(0, []))
    if parts and distance <= CLOSE * _size(parts):
        row.settle(pool, parts, [Suspect("unexplained", _size(parts) - row.value)])


def _candidates(row: _Row, pool: Pool) -> Iterator[list[Part]]:
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


def _size(parts: Iterable[Part]) -> int:
    return sum(part.total for part in parts)


def _require_this_model(rows: Sequence[_Row]) -> None:
    strangers = [row.term.label or row.term.formula for row in rows if not row.settled]
    if 2 * len(strangers) > len(rows):
        names = ", ".join(f"`{name}`" for name in strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise BadOption(
            f"this is no derivation of this model: {len(strangers)} of {len(rows)} terms count nothing in it ({names})",
            hint="name the model that it was written for, or a configuration with its sizes",
        )


def _counts_nothing(row: _Row, parts: Sequence[Part]) -> Suspect:
    """Why a term that counts no part of the model is there: a second count of what other terms have, or a mistake."""
    roles = roles_of_label(row.term.label)
    for path in dict.fromkeys(part.path for part in parts):
        whole = tuple(part for part in parts if part.path == path)
        if _size(whole) == row.value and roles <= whole[0].roles:
            return Suspect("twice", -row.value, parts=whole)
        if _size(whole) == row.value and "head" in roles and "token" in whole[0].roles:
            return Suspect("tied", -row.value, parts=whole)
    return Suspect("does not exist", -row.value, what=next(iter(sorted(roles & set(WHOLE))), ""))


# -- what no term counts ------------------------------------------------------------------------------------------


def _adopted(rows: Sequence[_Row], pool: Pool) -> list[Cause]:
    """Gives what is left to the terms that should have counted it; the causes for what no term lays claim to."""
    for part in pool.all:
        for row, gained in _counting_the_other_part(part, rows):
            row.adopt(pool, [gained])
    claimed: dict[int, list[Part]] = {}
    for part in pool.all:
        claims = [n for n, row in enumerate(rows) if row.alone and any(p.key == part.key for p in row.parts)]
        claims = claims or [n for n, row in enumerate(rows) if row.alone and row.lays_claim_to(part)]
        if claims:
            narrowest = min(claims, key=lambda n: len(rows[n].meant[-1]) if rows[n].meant else 0)
            claimed.setdefault(narrowest, []).append(part)
    for number, parts in claimed.items():
        if _size(parts) <= NEAR * rows[number].value:  # "conv1" names all convolutions, and means one
            rows[number].adopt(pool, parts)
    for row in rows:
        row.suspects += _grouped(row.adopted)
    return [cause_of(suspect) for suspect in _grouped(pool.all)]


def _counting_the_other_part(part: Part, rows: Sequence[_Row]) -> Iterator[tuple[_Row, Part]]:
    """The terms that count the weights whose biases `part` are, or the other way round, with as many of it."""
    left = part.count
    for row in rows:
        other = sum(p.count for p in row.parts if p.path == part.path and p.what != part.what)
        same = sum(p.count for p in row.parts if p.key == part.key)
        if gained := min(left, max(0, other - same)):
            left -= gained
            yield row, part.times(gained)


def _grouped(parts: Sequence[Part]) -> list[Suspect]:
    """What was left out, in the words of `WHOLE` or as biases; what has no such word one component at a time."""
    groups: dict[tuple[str, str], list[Part]] = {}
    whole = {part.path for part in parts if part.what == "weight"}
    for part in parts:
        name = next((role for role in WHOLE if role in part.roles), "")
        if part.path not in whole:
            name = "norm bias" if "norm" in part.roles else "bias"
        groups.setdefault((name, "" if name else part.path), []).append(part)
    return [Suspect("left out", _size(group), name, tuple(group)) for (name, _), group in groups.items()]


# -- the result ---------------------------------------------------------------------------------------------------


def _reconciled(derivation: Derivation, form: ParameterForm, rows: Sequence[_Row], missing: list[Cause]) -> Checked:
    terms = [_checked(row) for row in rows]
    written_sum = sum(term.claimed for term in terms)
    total = written_sum if derivation.total is None else derivation.total
    corrections = [Correction(label=term.label or term.formula, cause=cause) for term in terms for cause in term.causes]
    corrections += [Correction(label="", cause=cause) for cause in missing]
    if total != written_sum:
        added = Cause(kind="sum", amount=written_sum - total, found=str(total), right=str(written_sum))
        corrections.insert(0, Correction(label="", cause=added))
    assert total + sum(correction.cause.amount for correction in corrections) == form.total
    return Checked(
        terms=terms,
        missing=missing,
        claimed_total=total,
        written_sum=written_sum,
        true_total=form.total,
        corrections=corrections,
    )


def _checked(row: _Row) -> CheckedTerm:
    true = _size(row.parts)
    causes = [cause_of(suspect) for suspect in row.suspects]
    if row.value != row.claimed:
        right = str(row.value // row.written.times)
        found = str(row.claimed // row.written.times)
        causes.insert(0, Cause(kind="slip", amount=row.value - row.claimed, found=found, right=right))
    if row.claimed == true and row.value != true:
        causes = [Cause(kind="formula", amount=0, found=str(row.value), right=str(true))]
    assert row.claimed + sum(cause.amount for cause in causes) == true
    return CheckedTerm(
        label=row.term.label,
        formula=row.term.formula,
        substituted=row.written.expression.substituted(row.written.values),
        times=int(row.written.times),
        claimed=row.claimed,
        true=true,
        covers=covers_of(row.parts),
        causes=causes,
    )


def cause_of(suspect: Suspect) -> Cause:
    return Cause(
        kind=suspect.kind,
        amount=suspect.amount,
        found=suspect.found,
        right=suspect.right,
        what=suspect.what,
        covers=covers_of(suspect.parts),
    )


def covers_of(parts: Iterable[Part]) -> list[Cover]:
    """One cover for each component, or two where its weights and biases are not counted equally often."""
    counts: dict[str, Counter[Part]] = {}
    for part in parts:
        counts.setdefault(part.path, Counter())[part.times(1)] += part.count
    return [cover for path, counted in counts.items() for cover in _covers(path, counted)]


def _covers(path: str, counted: Mapping[Part, int]) -> Iterator[Cover]:
    each = _size(counted)
    if each == next(iter(counted)).together and len(set(counted.values())) == 1:
        yield Cover(path=path, what="", each=each, count=next(iter(counted.values())))
        return
    for part, count in counted.items():
        yield Cover(path=path, what=part.what, each=part.each, count=count)
