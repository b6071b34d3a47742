"""A derivation against a model: which parts each term counts, and what it takes to make all of it right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tonnage.analyses.derivation.explaining import WHOLE, Suspect
from tonnage.analyses.derivation.labels import roles_of_label
from tonnage.analyses.derivation.parts import Part, parts_of
from tonnage.analyses.derivation.pool import Pool
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
from tonnage.analyses.derivation.settling import NEAR, WAYS, Model, Row, row_of, size_of, sizes_of
from tonnage.analyses.expressions import MOST_CHARACTERS
from tonnage.analyses.forms import ParameterForm
from tonnage.errors import BadOption


def check(derivation: Derivation, form: ParameterForm) -> Checked:
    """`derivation` matched to the components of `form`, term by term, and reconciled with its total.

    A term counts the parts that its label names and whose sizes add up to it; else parts that its label names, if the
    difference can be explained or is small; else any parts that add up to it. Each parameter is counted once.
    `BadOption` if a formula cannot be read, names an unknown symbol, or if most terms count nothing of this model.
    """
    values = symbols_of(form, derivation.symbols)
    parts = parts_of(form.components)
    rows = [row_of(term, values, frozenset(derivation.symbols), parts) for term in derivation.terms]
    one = _as_one(derivation.terms)
    if all(row.value == row.claimed for row in rows) and sum(row.value for row in rows) == form.total and one:
        rows = [row_of(one, values, frozenset(derivation.symbols), parts)]
    for row in rows:
        row.alone = [other.meant for other in rows].count(row.meant) == 1 or not row.meant
    pool = Pool(parts)
    model = Model(sizes=sizes_of(form), elsewhere=elsewhere(form))
    for settle in WAYS:
        for row in rows:
            if not row.settled:
                settle(row, pool, model)
    _require_this_model(rows)
    for row in rows:
        if not row.settled:
            row.suspects = [_counts_nothing(row, parts)]
    missing = _adopted(rows, pool)
    return _reconciled(derivation, form, rows, missing)


def _as_one(terms: Sequence[Term]) -> Term | None:
    """A formula without labels as a single term; None for terms with labels, and for a formula that is too long.

    One that is right may be collected over components (5H for several norms): its addends are no parts of the model.
    """
    formula = " + ".join(term.formula if term.times == "1" else f"{term.times}*({term.formula})" for term in terms)
    labelled = any(term.label for term in terms)
    return None if labelled or len(formula) > MOST_CHARACTERS else Term(label="", formula=formula)


def _require_this_model(rows: Sequence[Row]) -> None:
    strangers = [row.term.label or row.term.formula for row in rows if not row.settled]
    if 2 * len(strangers) > len(rows):
        names = ", ".join(f"`{name}`" for name in strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise BadOption(
            f"this is no derivation of this model: {len(strangers)} of {len(rows)} terms count nothing in it ({names})",
            hint="name the model that it was written for, or a configuration with its sizes",
        )


def _counts_nothing(row: Row, parts: Sequence[Part]) -> Suspect:
    """Why a term that counts no part of the model is there: a second count of what other terms have, or a mistake."""
    roles = roles_of_label(row.term.label)
    for path in dict.fromkeys(part.path for part in parts):
        whole = tuple(part for part in parts if part.path == path)
        if size_of(whole) == row.value and roles <= whole[0].roles:
            return Suspect("twice", -row.value, parts=whole)
        if size_of(whole) == row.value and "head" in roles and "token" in whole[0].roles:
            return Suspect("tied", -row.value, parts=whole)
    return Suspect("does not exist", -row.value, what=next(iter(sorted(roles & set(WHOLE))), ""))


# -- what no term counts ------------------------------------------------------------------------------------------


def _adopted(rows: Sequence[Row], pool: Pool) -> list[Cause]:
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
        if size_of(parts) <= NEAR * rows[number].value:  # "conv1" names all convolutions, and means one
            rows[number].adopt(pool, parts)
    for row in rows:
        row.suspects += _grouped(row.adopted)
    return [cause_of(suspect) for suspect in _grouped(pool.all)]


def _counting_the_other_part(part: Part, rows: Sequence[Row]) -> Iterator[tuple[Row, Part]]:
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
    return [Suspect("left out", size_of(group), name, tuple(group)) for (name, _), group in groups.items()]


# -- the result ---------------------------------------------------------------------------------------------------


def _reconciled(derivation: Derivation, form: ParameterForm, rows: Sequence[Row], missing: list[Cause]) -> Checked:
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


def _checked(row: Row) -> CheckedTerm:
    true = size_of(row.parts)
    causes = [cause_of(suspect) for suspect in row.suspects]
    value, claimed = (str(number // row.written.times) for number in (row.value, row.claimed))
    if row.value != row.claimed == true:
        causes = [Cause(kind="formula", amount=0, found=value, right=claimed)]
    elif row.value != row.claimed:
        causes.insert(0, Cause(kind="slip", amount=row.value - row.claimed, found=claimed, right=value))
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
    each = size_of(counted)
    if each == next(iter(counted)).together and len(set(counted.values())) == 1:
        yield Cover(path=path, what="", each=each, count=next(iter(counted.values())))
        return
    for part, count in counted.items():
        yield Cover(path=path, what=part.what, each=part.each, count=count)
