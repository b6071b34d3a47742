"""tonnage params: how many parameters, and why exactly that many."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tonnage.cli.options import TRUST_REMOTE_CODE
from tonnage.cli.output import write
from tonnage.cli.progress import working_on
from tonnage.errors import EXIT_OK, BadOption

if TYPE_CHECKING:
    from tonnage.analyses.forms import ParameterForm
    from tonnage.analyses.worksheet import Language
    from tonnage.report import ParameterReport

FORMATS = ("text", "markdown", "latex", "json")
LANGUAGES = ("en", "zh")


@click.command(short_help="How many parameters, and why exactly that many.")
@click.argument("subject")
@click.option("--at", "sizes", metavar="SIZES", help="Count at other sizes: hidden_size=1024,num_hidden_layers=24.")
@click.option("--check", "derivation", metavar="DERIVATION", help="Check a count of yours: a YAML file or a formula.")
@click.option("--worksheet", metavar="FOLDER", help="Write the count as an exercise with blanks, and the answers.")
@click.option("--grade", "filled", metavar="FILE", help="Grade a worksheet that was filled in.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Of the page.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of checks and worksheets.")
@TRUST_REMOTE_CODE
def params(
    subject: str,
    sizes: str | None,
    derivation: str | None,
    worksheet: str | None,
    filled: str | None,
    form: str,
    as_json: bool,
    lang: Language,
    trust_remote_code: bool,
) -> int:
    """Say how many parameters SUBJECT has, and why exactly that many: a closed form, proved.

    SUBJECT is what `tonnage weigh` takes. It is built without weights, also at other sizes, and never run. The exit
    code of --check and --grade is 1 where something is wrong.
    """
    _one_of(at=sizes, check=derivation, worksheet=worksheet, grade=filled)
    report = _params(subject, trust_remote_code)
    if sizes is not None:
        return _count_at(report, subject, _sizes(sizes), trust_remote_code)
    if derivation is not None:
        return _check(report, derivation, lang)
    if worksheet is not None:
        _write_worksheet(report, Path(worksheet), lang)
    elif filled is not None:
        return _grade(report, filled, lang)
    else:
        _write_page(report, "json" if as_json else form)
    return EXIT_OK


def _one_of(**options: str | None) -> None:
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise BadOption(f"{' and '.join(given)} cannot be done at once", hint="ask for one at a time")


def _params(subject: str, trust_remote_code: bool) -> ParameterReport:
    with working_on(subject) as say:
        from tonnage import pipeline

        return pipeline.params(subject, trust_remote_code=trust_remote_code, progress=say)


def _sizes(text: str) -> dict[str, int]:
    """hidden_size=1024,attention_bias=True as a dict."""
    found: dict[str, int] = {}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if value in ("True", "False"):
            found[name] = value == "True"
            continue
        if not value.isdecimal():
            raise BadOption(f"`{pair.strip()}` gives no size", hint="write --at hidden_size=1024,num_hidden_layers=24")
        found[name] = int(value)
    return found


def _count_at(report: ParameterReport, subject: str, sizes: dict[str, int], trust_remote_code: bool) -> int:
    """What the formula gives at other sizes, beside a model that is built with them."""
    from tonnage import pipeline

    predicted = report.parameters.evaluate(**sizes)
    counted = pipeline.count_at(subject, _fields(report, sizes), trust_remote_code=trust_remote_code)
    write(f"{predicted:,}\n")
    if predicted != counted:
        raise AssertionError(f"the formula gives {predicted:,} at {sizes}, and there are {counted:,}")
    return EXIT_OK


def _fields(report: ParameterReport, sizes: dict[str, int]) -> dict[str, int]:
    """Sizes by the names of fields, where they were given by symbols."""
    names = {symbol.symbol: symbol.field for symbol in _form(report).symbols}
    return {names.get(name, name): size for name, size in sizes.items()}


def _form(report: ParameterReport) -> ParameterForm:
    form = report.parameters.form
    assert form is not None, "tonnage.params derives one"
    return form


def _check(report: ParameterReport, derivation: str, lang: Language) -> int:
    from tonnage.analyses.derivation import check, read_derivation
    from tonnage.render.derivation import checked_page

    checked = check(read_derivation(derivation), _form(report))
    write(checked_page(checked, sys.stdout, name=report.subject.name, lang=lang))
    return checked.exit_code


def _grade(report: ParameterReport, filled: str, lang: Language) -> int:
    from tonnage.analyses.worksheet import grade, read_worksheet
    from tonnage.render.derivation import graded_page

    graded = grade(read_worksheet(filled), _form(report))
    write(graded_page(graded, sys.stdout, name=report.subject.name, lang=lang))
    return graded.exit_code


def _write_worksheet(report: ParameterReport, folder: Path, lang: Language) -> None:
    from tonnage.analyses.worksheet import make_worksheet
    from tonnage.recording import whole_file

    made = make_worksheet(_form(report), lang, name=report.subject.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(
            f"{folder} cannot be made: {error.strerror}", hint="name a folder that can be written"
        ) from None
    for name, text in (("worksheet.md", made.markdown), ("worksheet.yaml", made.sheet), ("answers.json", made.key)):
        with whole_file(folder / name) as file:
            file.write(text.encode())
        write(f"{folder / name}\n")


def _write_page(report: ParameterReport, form: str) -> None:
    if form == "json":
        write(f"{report.to_json()}\n")
        return
    from tonnage.render import params

    pages = {"text": params.params_page, "markdown": params.params_markdown, "latex": params.params_latex}
    write(pages[form](report, sys.stdout))
