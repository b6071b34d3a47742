"""Derivations from files and from the command line."""

from __future__ import annotations

from pathlib import Path

from tonnage.analyses.derivation.results import Derivation, Term
from tonnage.analyses.expressions import parse
from tonnage.analyses.files import kind_of, loaded, require_keys, text_of
from tonnage.errors import BadFile, BadOption

SUFFIXES = (".yaml", ".yml", ".json")
MOST_TERMS = 500
FORMAT = "see docs/derivations.md for the format"


def read_derivation(source: str) -> Derivation:
    """The derivation in the file `source`, or the one that `source` itself is: a sum, with `= total` after it or not.

    >>> [term.formula for term in read_derivation("30522*768 + 12(4*768^2 + 4*768) = 51,770,112").terms]
    ['30522*768', '12*(4*768^2 + 4*768)']

    `BadFile` says what is wrong with a file, `BadOption` where a formula cannot be read.
    """
    if _is_file(source):
        return parse_derivation(text_of(Path(source)), name=source)
    if source.lower().endswith(SUFFIXES):
        raise BadFile(f"there is no file {source}", hint="give a file or a formula")
    formula, total = _sides(source)
    terms = [Term(label="", formula=str(addend)) for addend in parse(formula).addends]
    return Derivation(terms=terms, total=total)


def parse_derivation(text: str, *, name: str = "the derivation") -> Derivation:
    """The derivation that `text` is, as JSON or as YAML; `name` is what messages call it.

    >>> parse_derivation("terms: {vocabulary: '30522*768 = 23,440,896'}").terms
    [Term(label='vocabulary', formula='30522*768', claimed=23440896, times='1')]
    """
    content = loaded(text, name)
    if not isinstance(content, dict):
        raise BadFile(f"{name} is {kind_of(content)}, not a derivation with `terms`", hint=FORMAT)
    require_keys(content, {"terms", "total", "symbols", "model"}, name)
    symbols = content.get("symbols") or {}
    if not isinstance(symbols, dict) or not all(type(v) is int and isinstance(k, str) for k, v in symbols.items()):
        raise BadFile(f"`symbols` in {name} is not a list of names with whole numbers", hint="symbols: {H: 512}")
    return Derivation(
        terms=_terms(content.get("terms"), name),
        total=_number(content["total"], f"`total` in {name}") if content.get("total") is not None else None,
        symbols=symbols,
    )


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except (OSError, ValueError):  # a formula that is too long for a name, or has a character that none can have
        return False


def _terms(given: object, name: str) -> list[Term]:
    if isinstance(given, dict):
        given = [{"label": label, "formula": formula} for label, formula in given.items()]
    if not isinstance(given, list) or not given:
        raise BadFile(f"`terms` in {name} is {kind_of(given)}; it should be a list of terms", hint=FORMAT)
    if len(given) > MOST_TERMS:
        raise BadFile(f"{name} has {len(given)} terms; at most {MOST_TERMS} are read", hint=FORMAT)
    return [_term(term, f"term {number} in {name}") for number, term in enumerate(given, start=1)]


def _term(given: object, where: str) -> Term:
    if not isinstance(given, dict):
        raise BadFile(f"{where} is {kind_of(given)}, not a label with a formula", hint=FORMAT)
    require_keys(given, {"label", "formula", "claimed", "times"}, where)
    label = given.get("label", "")
    if not isinstance(label, str | int):
        raise BadFile(f"the label of {where} is {kind_of(label)}, not text", hint=FORMAT)
    formula, claimed = _sides(_formula(given.get("formula"), where))
    if given.get("claimed") is not None:
        claimed = _number(given["claimed"], f"`claimed` of {where}")
    if not formula and claimed is None:
        raise BadFile(f"{where} has neither a formula nor a number", hint="write formula: 4H^2, or claimed: 1024")
    times = _formula(given.get("times"), where) or "1"
    return Term(label=str(label), formula=formula or str(claimed), claimed=claimed, times=times)


def _formula(given: object, where: str) -> str:
    if given is None:
        return ""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise BadFile(f"the formula of {where} is {kind_of(given)}", hint="put it in quotes: '4H^2 + 4H'")
    return str(given)


def _sides(text: str) -> tuple[str, int | None]:
    """What stands before and after the equals sign."""
    formula, sign, value = text.replace("＝", "=").partition("=")
    return formula.strip(), _number(value, f"what stands after = in `{text}`") if sign else None


def _number(given: object, where: str) -> int:
    """A whole number, as one or as text with thousands separated."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, str):
        value = parse(given).evaluate({})
        if value.denominator == 1:
            return int(value)
    raise BadOption(f"{where} is no whole number", hint="write 16,435,200 or 16435200")
