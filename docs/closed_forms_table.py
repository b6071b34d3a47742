"""Writes the catalogue's closed forms into docs/closed-forms.md: `python docs/closed_forms_table.py`.

Each formula is derived from the smallest model of its architecture and evaluated at the sizes of the others; a model
whose count it does not give has a formula of its own. This takes some minutes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tonnage
from tonnage.analyses.forms import ParameterForm, Proof, Symbol
from tonnage.errors import BadOption
from tonnage.workload import resolve
from tonnage.workload.catalogue import Entry, all_entries
from tonnage.workload.variation import Variation, vary

PAGE = Path(__file__).with_name("closed-forms.md")
PARAMETERS = ("<!-- parameters: written by closed_forms_table.py -->", "<!-- end of parameters -->")
MACS = ("<!-- MACs: written by closed_forms_table.py -->", "<!-- end of MACs -->")
WITH_MACS = (
    "bert-base-uncased",
    "gpt2",
    "HuggingFaceTB/SmolLM2-135M",
    "mistralai/Mixtral-8x7B-v0.1",
    "t5-small",
    "openai/whisper-tiny",
    "google/vit-base-patch16-224",
    "torchvision:resnet50",
)
WIDTH = 100


class Formula(NamedTuple):
    """A closed form, and the models of the catalogue whose counts it gives; it is derived from the first."""

    form: ParameterForm
    entries: list[Entry]


def architectures() -> dict[str, list[Entry]]:
    """The models of the catalogue by the class that they are of, the smallest of each first."""
    found: dict[str, list[Entry]] = {}
    for entry in all_entries():
        found.setdefault(entry.architecture, []).append(entry)
    return {name: sorted(entries, key=lambda entry: entry.parameters) for name, entries in found.items()}


def formulas(entries: Sequence[Entry]) -> list[Formula]:
    """As few formulas as give the counts of all `entries`, which are of one architecture."""
    found: list[Formula] = []
    for entry in entries:
        variation = vary(resolve(entry.name))
        assert variation is not None, "a config of transformers can be varied"
        known = next((f for f in found if count_at(f.form, variation) == entry.parameters), None)
        if known is None:
            form = tonnage.params(entry.name).parameters.form
            assert form is not None, "tonnage.params derives one"
            found.append(known := Formula(form, []))
        known.entries.append(entry)
    return found


def count_at(form: ParameterForm, variation: Variation) -> int | None:
    """What `form` comes to at the sizes of another model; None where it does not hold there."""
    bound = {symbol.field for symbol in form.symbols} | form.held.keys() | form.settings.keys() | form.moves.keys()
    given = {name: value for name, value in {**variation.settings, **variation.fields}.items() if name in bound}
    try:
        return form.evaluate(**given) if form.formula else None
    except BadOption:
        return None


def section(architecture: str, found: Sequence[Formula]) -> str:
    """What the page says of one architecture."""
    paragraphs = [f"### {architecture}"]
    for number, formula in enumerate(found):
        alike = number > 0 and _where(formula.form.symbols) == _where(found[number - 1].form.symbols)
        paragraphs += _formula(formula, "Symbols as above" if alike else _where(formula.form.symbols))
    return "\n\n".join(paragraphs)


def summary(found: Mapping[str, Sequence[Formula]]) -> str:
    """How much of the catalogue has a proved form."""
    every = [formula for formulas in found.values() for formula in formulas]
    proved = [formula for formula in every if formula.form.formula and formula.form.proved]
    models, having = (sum(len(formula.entries) for formula in some) for some in (every, proved))
    proofs = sum(len(formula.form.proofs) for formula in proved)
    return (
        f"{having} of the {models} models in the catalogue have a proved formula ({having / models:.1%}): "
        f"{len(proved)} formulas for {len(found)} architectures, proved at {proofs} configurations, "
        f"and held against the counts of {having - len(proved)} models besides those that they are derived from."
    )


def work_section(name: str) -> str:
    """What the page says of the forward MACs of one model."""
    report = tonnage.flops(name)
    form, of_config = report.compute.form, report.config_form
    assert form is not None, "a name can be run again"
    parts = [f"### {name}", f"In the sizes of its input, {_proof(form.proofs)}:", _code(form.formula)]
    parts.append(_where(form.symbols) + "".join(f"; for whole {step}" for step in form.steps) + ".")
    if of_config is not None:
        parts += [f"In those of its config as well, {_proof(of_config.proofs)}:", _code(of_config.formula)]
        parts += [_where(of_config.symbols) + ".", *_conditions(of_config)]
    return "\n\n".join(parts)


def page(text: str, parameters: str, macs: str) -> str:
    """`text` with what stands between its markers replaced."""
    return _between(_between(text, PARAMETERS, parameters), MACS, macs)


def _between(text: str, markers: tuple[str, str], new: str) -> str:
    begin, end = markers
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{new}\n\n{end}{rest.split(end)[1]}"


def _formula(found: Formula, where: str) -> Iterator[str]:
    form, (first, *others) = found.form, found.entries
    if form.formula:
        yield f"Derived from `{first.name}`, {_proof(form.proofs)}:"
        yield _code(form.formula)
        yield f"{where}."
        yield from _conditions(form)
    else:
        yield f"`{first.name}`: no formula, because {form.reason}."
    if others:
        yield f"The same for {', '.join(f'`{entry.name}`' for entry in others)}."


def _proof(proofs: Sequence[Proof]) -> str:
    held = sum(proof.holds for proof in proofs)
    return f"proved at {held} of {len(proofs)} other configurations" if held else "not proved"


def _code(formula: str) -> str:
    """`formula` in lines that begin with a sign: spaces that hold a term together do not break."""
    held = formula.replace("+ ", "+\N{NO-BREAK SPACE}").replace(" - ", "\N{NO-BREAK SPACE}-\N{NO-BREAK SPACE}")
    lines = textwrap.wrap(held, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(["```text", *lines, "```"]).replace("\N{NO-BREAK SPACE}", " ")


def _where(symbols: Sequence[Symbol]) -> str:
    return ", ".join(_symbol(symbol) for symbol in symbols)


def _symbol(symbol: Symbol) -> str:
    name = f" `{symbol.field}`" if symbol.field != symbol.symbol else ""
    follows = f" ({symbol.definition} unless it is given)" if symbol.definition else ""
    return f"`{symbol.symbol}`{name}{follows}"


def _conditions(form: ParameterForm) -> Iterator[str]:
    conditions = [
        *(f"`{name}={value}`" for name, value in form.settings.items()),
        *(["whole " + ", ".join(f"`{text}`" for text in form.whole)] if form.whole else []),
        *(f"`{follower}` in proportion to `{leader}`" for follower, leader in form.moves.items()),
        *(f"`{name}={form.sizes[name]}` ({reason})" for name, reason in form.held.items()),
    ]
    if conditions:
        yield f"Holds for {'; '.join(conditions)}."


def main() -> None:
    found = {name: formulas(entries) for name, entries in architectures().items()}
    parameters = "\n\n".join([summary(found), *(section(name, forms) for name, forms in found.items())])
    macs = "\n\n".join(map(work_section, WITH_MACS))
    PAGE.write_text(page(PAGE.read_text("utf-8"), parameters, macs), "utf-8")


if __name__ == "__main__":
    main()
