"""The closed form of a model as an exercise: with blanks, with the answers, and graded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tonnage.analyses.derivation.checking import cause_of
from tonnage.analyses.derivation.explaining import Written, explain
from tonnage.analyses.derivation.parts import parts_of
from tonnage.analyses.derivation.results import Cause, elsewhere, symbols_of
from tonnage.analyses.derivation.settling import sizes_of
from tonnage.analyses.expressions import Expression, parse
from tonnage.analyses.files import kind_of, loaded, require_keys, text_of
from tonnage.analyses.forms import Component, ParameterForm
from tonnage.errors import EXIT_CHECK_FAILED, EXIT_OK, BadFile, BadOption

Language = Literal["en", "zh"]
Blank = Literal["formula", "numbers", "times", "count"]
BLANKS: tuple[Blank, ...] = ("formula", "numbers", "times", "count")
"""What is asked of each component: the parameters of one in symbols, the same in numbers, how often it occurs, all."""
Mark = Literal["right", "here", "wrong", "blank"]
"""here: a formula that is right for this model and for no other, as H*H where H*h*d is meant."""

TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Count the parameters",
        "task": "For each part write how many parameters it has where it occurs once, in symbols and in numbers, how "
        "often it occurs, and how many parameters that makes. {q,k} are two things that belong to one part; {0-5} are "
        "places where it occurs. A tensor with two names counts once.",
        "symbols": "Symbols",
        "symbol": "symbol",
        "field": "field",
        "value": "value",
        "parts": "Parts",
        "part": "part",
        "kind": "module",
        "parameters": "parameters",
        "formula": "once, in symbols",
        "numbers": "in numbers",
        "times": "times",
        "count": "count",
        "total": "Total",
        "fill": "Fill in what follows each colon, then: tonnage params MODEL --grade THIS_FILE",
    },
    "zh": {
        "title": "参数量推导练习",
        "task": "对每个组成部分，写出它出现一次时的参数量（先用符号，再代入数字）、出现次数和合计。"
        "{q,k} 表示同属一个部分的两个模块，{0-5} 表示它出现的位置。同一张量即使有两个名字也只计一次。",
        "symbols": "符号",
        "symbol": "符号",
        "field": "配置字段",
        "value": "取值",
        "parts": "组成部分",
        "part": "部分",
        "kind": "模块",
        "parameters": "参数",
        "formula": "单次（符号）",
        "numbers": "代入数字",
        "times": "次数",
        "count": "合计",
        "total": "总计",
        "fill": "在冒号后填写答案，然后运行：tonnage params MODEL --grade THIS_FILE",
    },
}


class Worksheet(Struct, frozen=True, kw_only=True):
    """An exercise: `markdown` to print, `sheet` to fill in on a computer (YAML), `key` with the answers (JSON)."""

    markdown: str
    sheet: str
    key: str


class Answers(Struct, frozen=True, kw_only=True):
    """What a person wrote in the blanks of one component; "" where nothing."""

    path: str
    formula: str = ""
    numbers: str = ""
    times: str = ""
    count: str = ""


class Filled(Struct, frozen=True, kw_only=True):
    """A worksheet that was handed in."""

    components: list[Answers]
    total: str = ""


class Graded(Struct, frozen=True, kw_only=True):
    """A worksheet, marked: `items` in the order of the exercise, then the total."""

    items: list[GradedItem]
    total: GradedBlank

    @property
    def right(self) -> int:
        return sum(blank.mark == "right" for blank in self._blanks())

    @property
    def asked(self) -> int:
        return len(list(self._blanks()))

    @property
    def exit_code(self) -> int:
        return EXIT_OK if self.right == self.asked else EXIT_CHECK_FAILED

    def _blanks(self) -> Iterator[GradedBlank]:
        for item in self.items:
            yield from item.blanks
        yield self.total


class GradedItem(Struct, frozen=True, kw_only=True):
    path: str
    kind: str
    blanks: list[GradedBlank]


class GradedBlank(Struct, frozen=True, kw_only=True):
    """One blank: what was asked for, what was written, what is right, and, if it is wrong and this is known, why."""

    blank: Blank | Literal["total"]
    answer: str
    expected: str
    mark: Mark
    causes: list[Cause] = []


def make_worksheet(form: ParameterForm, lang: Language = "en", *, name: str = "") -> Worksheet:
    """The exercise to derive `form`; `name` is the model's, for the heading."""
    return Worksheet(markdown=_markdown(form, lang, name), sheet=_sheet(form, lang, name), key=_key(form, name))


def _markdown(form: ParameterForm, lang: Language, name: str) -> str:
    say = TEXTS[lang]
    lines = [f"# {say['title']}{': ' if name else ''}{name}", "", say["task"], ""]
    if form.symbols:
        rows = [[f"`{s.symbol}`", f"`{s.field}`", f"{s.value:,}"] for s in form.symbols]
        lines += [f"## {say['symbols']}", "", *_table([say["symbol"], say["field"], say["value"]], rows), ""]
    headings = ["#", *(say[column] for column in ("part", "kind", "parameters", *BLANKS))]
    rows = [
        [str(number), f"`{c.path}`", c.kind, ", ".join(c.parameters), *["____"] * len(BLANKS)]
        for number, c in enumerate(form.components, start=1)
    ]
    return "\n".join([*lines, f"## {say['parts']}", "", *_table(headings, rows), "", f"{say['total']}: ____", ""])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return [lines[0], f"|{' --- |' * len(headings)}", *lines[1:]]


def _sheet(form: ParameterForm, lang: Language, name: str) -> str:
    say = TEXTS[lang]
    lines = [f"# {say['fill']}", f"model: {_quoted(name)}"]
    lines += [f"# {s.symbol} = {s.value}{f' ({s.field})' if s.field else ''}" for s in form.symbols]
    lines.append("components:")
    for component in form.components:
        lines.append(f"  - path: {_quoted(component.path)}  # {component.kind}: {', '.join(component.parameters)}")
        lines += [f"    {blank}:  # {say[blank]}" for blank in BLANKS]
    return "\n".join([*lines, f"total:  # {say['total']}", ""])


def _quoted(text: str) -> str:
    """`text` as JSON writes it, which is YAML as well."""
    return json.dumps(text, ensure_ascii=False)


def _key(form: ParameterForm, name: str) -> str:
    components = [{"path": c.path, **_expected(c)} for c in form.components]
    key = {"model": name, "components": components, "total": str(form.total)}
    return json.dumps(key, indent=1, ensure_ascii=False) + "\n"


def _expected(component: Component) -> dict[Blank, str]:
    return {
        "formula": component.formula,
        "numbers": component.substituted,
        "times": component.times,
        "count": str(component.total),
    }


def read_worksheet(path: str | Path) -> Filled:
    """The worksheet that was filled in at `path`, an answer key too. `BadFile` says what is wrong with it."""
    return parse_worksheet(text_of(Path(path)), name=str(path))


def parse_worksheet(text: str, *, name: str = "the worksheet") -> Filled:
    content = loaded(text, name)
    if not isinstance(content, dict) or not isinstance(content.get("components"), list):
        raise BadFile(f"{name} is no worksheet: it has no list of `components`", hint="--worksheet DIR makes one")
    require_keys(content, {"model", "components", "total"}, name)
    components = [_answers(given, f"component {n} in {name}") for n, given in enumerate(content["components"], start=1)]
    return Filled(components=components, total=_answer(content.get("total"), f"the total in {name}"))


def _answers(given: object, where: str) -> Answers:
    if not isinstance(given, dict) or not isinstance(given.get("path"), str):
        raise BadFile(f"{where} has no path", hint="leave the lines of the worksheet as they are")
    require_keys(given, {"path", *BLANKS}, where)
    blanks = {blank: _answer(given.get(blank), f"`{blank}` of {where}") for blank in BLANKS}
    return Answers(path=given["path"], **blanks)


def _answer(given: object, where: str) -> str:
    if given is None:
        return ""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise BadFile(f"{where} is {kind_of(given)}", hint="put it in quotes: '4H^2 + 4H'")
    return str(given)


def grade(filled: Filled, form: ParameterForm) -> Graded:
    """Each blank of `filled` beside what `form` has there. `BadOption` if it is the worksheet of another model.

    Any formula that says the same is right; one that is right for these sizes alone is marked "here".
    """
    by_path = {answers.path: answers for answers in filled.components}
    strangers = by_path.keys() - {component.path for component in form.components}
    if strangers:
        raise BadOption(
            f"this is the worksheet of another model: this one has no {min(strangers)}", hint="name the model it is of"
        )
    grader = _Grader(form)
    items = [grader.item(c, by_path.get(c.path, Answers(path=c.path))) for c in form.components]
    return Graded(items=items, total=grader.total(filled))


class _Grader:
    def __init__(self, form: ParameterForm) -> None:
        self.form = form
        self.values = symbols_of(form)
        self.elsewhere = elsewhere(form)
        self.sizes = sizes_of(form)

    def item(self, component: Component, answers: Answers) -> GradedItem:
        right: dict[Blank, int] = {
            "formula": component.each,
            "numbers": component.each,
            "times": component.repeats,
            "count": component.total,
        }
        read = {blank: self._read(getattr(answers, blank), component.path) for blank in BLANKS}
        values = {blank: e.evaluate(self.values) for blank, e in read.items() if e is not None}
        blanks = []
        for blank in BLANKS:
            mark: Mark = "blank" if blank not in values else "right" if values[blank] == right[blank] else "wrong"
            if mark == "right" and blank == "formula" and not self._is_general(read[blank], component):
                mark = "here"
            blanks.append(
                GradedBlank(
                    blank=blank,
                    answer=getattr(answers, blank),
                    expected=_expected(component)[blank],
                    mark=mark,
                    causes=self._causes(component, blank, read, values) if mark == "wrong" else [],
                )
            )
        return GradedItem(path=component.path, kind=component.kind, blanks=blanks)

    def total(self, filled: Filled) -> GradedBlank:
        expression = self._read(filled.total, "total")
        value = None if expression is None else expression.evaluate(self.values)
        mark: Mark = "blank" if value is None else "right" if value == self.form.total else "wrong"
        counts = [self._read(answers.count, answers.path) for answers in filled.components]
        causes = []
        if value is not None and all(counts):
            written = sum((count.evaluate(self.values) for count in counts if count is not None), Fraction())
            causes = _slip("sum", value, written) if mark == "wrong" else []
        return GradedBlank(blank="total", answer=filled.total, expected=str(self.form.total), mark=mark, causes=causes)

    def _read(self, answer: str, where: str) -> Expression | None:
        if not answer.strip(" _"):
            return None
        try:
            expression = parse(answer, self.values)
            expression.evaluate(self.values)
        except BadOption as error:
            raise BadOption(f"{where}: {error.message}", hint=error.hint) from None
        return expression

    def _is_general(self, expression: Expression | None, component: Component) -> bool:
        """Whether a formula is right at other sizes too; where a form has no symbols, at this one."""
        right = parse(component.formula)
        return expression is not None and all(expression.evaluate(at) == right.evaluate(at) for at in self.elsewhere)

    def _causes(
        self,
        component: Component,
        blank: Blank,
        read: Mapping[Blank, Expression | None],
        values: Mapping[Blank, Fraction],
    ) -> list[Cause]:
        if blank == "times":
            return _slip("repeats", values[blank], Fraction(component.repeats))
        one = values.get("numbers", values.get("formula"))
        if blank == "count" and one is not None and "times" in values and one * values["times"] != values["count"]:
            return _slip("slip", values["count"], one * values["times"])
        expression = read[blank]
        if expression is None or values[blank].denominator != 1:
            return []
        repeats = 1 if blank == "count" else component.repeats
        parts = [part.times(part.count // repeats) for part in parts_of([component])]
        suspects = explain(Written(expression, self.values, 1), parts, self.sizes)
        return [cause_of(suspect) for suspect in suspects or ()]


def _slip(kind: Literal["slip", "sum", "repeats"], found: Fraction, right: Fraction) -> list[Cause]:
    if found.denominator != 1 or right.denominator != 1 or found == right:
        return []
    return [Cause(kind=kind, amount=int(right - found), found=str(found), right=str(right))]
