"""The terminal pages of a derivation that was checked and of a worksheet that was graded, in English or Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tonnage.analyses.derivation import Cause, Checked, CheckedTerm, Cover
from tonnage.analyses.worksheet import Graded, GradedBlank, Language
from tonnage.render.text import Glyphs, console_for, glyphs_for, without_trailing_spaces
from tonnage.units import format_count

NUMBER = 16
"""Cells of a column of numbers."""
MOST_PLACES = 3
"""Paths that one cause names."""

SAY: dict[Language, dict[str, str]] = {
    "en": {
        "right": "every term and the total are right",
        "wrong": "{wrong} of {terms} terms differ; {difference}",
        "short": "{amount} too few",
        "long": "{amount} too many",
        "even": "the total is right all the same",
        "term": "term",
        "yours": "yours",
        "model": "the model's",
        "missing": "counted by no term",
        "reconciled": "from your total to the true one",
        "claimed": "your total",
        "true": "= the true total, nothing left over",
        "score": "{right} of {asked} right",
        "expected": "should be {expected}",
        "here": "right for this model, not in general: should be {expected}",
        "blank": "left blank: {expected}",
        "more": "and {count} more",
        "formula": "once, in symbols",
        "numbers": "in numbers",
        "count": "count",
        "total": "total",
        "occurs": "times",
    },
    "zh": {
        "right": "各项与总数全部正确",
        "wrong": "{terms} 项中有 {wrong} 项不符；{difference}",
        "short": "少算了 {amount}",
        "long": "多算了 {amount}",
        "even": "但总数正确",
        "term": "项目",
        "yours": "你的结果",
        "model": "模型",
        "missing": "没有任何一项计入",
        "reconciled": "从你的总数到真实总数",
        "claimed": "你的总数",
        "true": "= 真实总数，没有剩余差额",
        "score": "{asked} 空中答对 {right} 空",
        "expected": "应为 {expected}",
        "here": "只对这个模型成立，一般情形应为 {expected}",
        "blank": "未填写：{expected}",
        "more": "另有 {count} 处",
        "formula": "单次（符号）",
        "numbers": "代入数字",
        "count": "合计",
        "total": "总计",
        "occurs": "次数",
    },
}
CAUSES: dict[Language, dict[str, str]] = {
    "en": {
        "slip": "this comes to {right}, not {found}",
        "constant": "{found} should be {right}",
        "left out": "left out: {what}",
        "invented": "not in the model: {what}",
        "twice": "counted twice: {what}",
        "heads": "keys and values have fewer heads than the queries",
        "does not exist": "the model has no such part",
        "does not exist position": "the model has no table of positions",
        "tied": "tied: the head shares the embedding's weight, which counts once",
        "repeats": "it occurs {right} times, not {found}",
        "sum": "your terms add up to {right}, not {found}",
        "formula": "the number is right, the formula comes to {found}",
        "unexplained": "no cause found",
    },
    "zh": {
        "slip": "算错了：结果是 {right}，不是 {found}",
        "constant": "{found} 应为 {right}",
        "left out": "漏算：{what}",
        "invented": "模型中没有：{what}",
        "twice": "重复计算：{what}",
        "heads": "键和值的头数少于查询的头数",
        "does not exist": "模型中没有这一部分",
        "does not exist position": "模型中没有位置嵌入表",
        "tied": "权重共享：输出头与词嵌入是同一张量，只计一次",
        "repeats": "出现 {right} 次，不是 {found} 次",
        "sum": "你的各项之和是 {right}，不是 {found}",
        "formula": "数值正确，但公式的结果是 {found}",
        "unexplained": "未找到原因",
    },
}
PARTS: dict[Language, dict[str, str]] = {
    "en": {
        "bias": "biases",
        "attention bias": "biases of the attention",
        "cross attention bias": "biases of the cross-attention",
        "ffn bias": "biases of the feed-forward",
        "norm bias": "biases of the norms",
        "norm": "norms",
        "position": "positions",
        "cross": "cross-attention",
        "attention": "attention",
        "ffn": "feed-forward",
        "segment": "segment embeddings",
        "token": "token embeddings",
        "pooler": "pooler",
        "head": "head",
    },
    "zh": {
        "bias": "偏置",
        "attention bias": "注意力的偏置",
        "cross attention bias": "交叉注意力的偏置",
        "ffn bias": "前馈网络的偏置",
        "norm bias": "归一化层的偏置",
        "norm": "归一化层",
        "position": "位置编码",
        "cross": "交叉注意力",
        "attention": "注意力",
        "ffn": "前馈网络",
        "segment": "句段嵌入",
        "token": "词嵌入",
        "pooler": "池化层",
        "head": "输出头",
    },
}


def checked_page(
    checked: Checked, stream: IO[str], *, name: str = "", lang: Language = "en", width: int | None = None
) -> str:
    """A derivation term by term, what no term counts, and the way from its total to the true one."""
    pen = _Pen(stream, lang, width)
    pen.heading(name, _verdict(checked, pen))
    pen.line(pen.say("term"), pen.say("yours"), pen.say("model"), style="bold")
    for term in checked.terms:
        _print_term(term, pen)
    if checked.missing:
        pen.blank()
        pen.line(pen.say("missing"), style="bold")
        for cause in checked.missing:
            _print_cause(cause, pen)
    pen.blank()
    _print_reconciliation(checked, pen)
    return pen.text()


def graded_page(
    graded: Graded, stream: IO[str], *, name: str = "", lang: Language = "en", width: int | None = None
) -> str:
    """A worksheet blank by blank, with what is right where the answer is not, and the score."""
    pen = _Pen(stream, lang, width)
    pen.heading(name, pen.say("score", right=graded.right, asked=graded.asked))
    for item in graded.items:
        pen.line(f"{item.path} ({item.kind})", style="bold")
        for blank in item.blanks:
            _print_blank(blank, pen)
    _print_blank(graded.total, pen)
    return pen.text()


class _Pen:
    """Writes lines in one language, in characters that the stream has; English where it has no Chinese ones."""

    def __init__(self, stream: IO[str], lang: Language, width: int | None) -> None:
        self.console: Console = console_for(stream, width=width)
        self.glyphs: Glyphs = glyphs_for(self.console.encoding)
        self.lang: Language = lang if _can_write(SAY[lang]["model"], self.console.encoding) else "en"
        self.capture = self.console.capture()
        self.capture.__enter__()

    def text(self) -> str:
        self.capture.__exit__(None, None, None)
        return without_trailing_spaces(self.capture.get())

    def say(self, what: str, **details: object) -> str:
        return SAY[self.lang][what].format(**details)

    def heading(self, name: str, verdict: str) -> None:
        self.console.print(Text(self.glyphs.clean(f"{name}: {verdict}" if name else verdict), style="bold"))
        self.blank()

    def blank(self) -> None:
        self.console.print()

    def fits(self, left: str, *numbers: str) -> bool:
        """Whether `line` would be one line."""
        return cell_len(self.glyphs.clean(left)) <= self.console.width - 3 - NUMBER * len(numbers)

    def line(self, left: str, *numbers: str, ok: bool | None = None, indent: int = 0, style: str = "") -> None:
        """One row: a tick or cross (None: neither), words that wrap, and numbers that stand in columns."""
        grid = Table.grid(padding=0)
        grid.add_column(width=3 + indent, no_wrap=True)
        grid.add_column(width=self.console.width - 3 - indent - NUMBER * len(numbers), overflow="fold")
        for _ in numbers:
            grid.add_column(width=NUMBER, justify="right", no_wrap=True)
        tick, colour = ("", "") if ok is None else (self._tick(ok), "green" if ok else "red")
        cells = [Text(self.glyphs.clean(cell), style=style) for cell in (left, *numbers)]
        grid.add_row(Text(tick, style=colour), *cells)
        self.console.print(grid)

    def _tick(self, ok: bool) -> str:
        return ("✓" if ok else "✗") if self.glyphs.unicode else ("ok" if ok else "no")


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _verdict(checked: Checked, pen: _Pen) -> str:
    if checked.ok:
        return pen.say("right")
    short = checked.true_total - checked.claimed_total
    amount = format_count(abs(short))
    difference = pen.say("even") if not short else pen.say("short" if short > 0 else "long", amount=amount)
    wrong = sum(not term.ok for term in checked.terms)
    return pen.say("wrong", wrong=wrong, terms=len(checked.terms), difference=difference)


def _print_term(term: CheckedTerm, pen: _Pen) -> None:
    times = f"{term.times} × " if term.times > 1 else ""
    numbers = format_count(term.claimed), format_count(term.true)
    line = f"{times}{term.label}: {term.formula}" if term.label else f"{times}{term.formula}"
    if pen.fits(line, *numbers):
        pen.line(line, *numbers, ok=term.ok)
    else:
        pen.line(f"{times}{term.label}" if term.label else line, *numbers, ok=term.ok)
        pen.line(term.formula if term.label else "", indent=2)
    for cause in term.causes:
        _print_cause(cause, pen, times=term.times)


def _print_cause(cause: Cause, pen: _Pen, *, times: int = 1) -> None:
    """A cause with its amount, and the parts that it is about, one a line."""
    each, left = divmod(abs(cause.amount), times)
    calculation = f" ({times} × {format_count(each)})" if times > 1 and each and not left else ""
    pen.line(f"{_short_cause(cause, pen)}{calculation}", _signed(cause.amount), indent=2)
    if cause.what and cause.kind in ("left out", "twice"):
        for place in _places(cause.covers, pen):
            pen.line(place, indent=4)


def _short_cause(cause: Cause, pen: _Pen) -> str:
    templates = CAUSES[pen.lang]
    template = templates.get(f"{cause.kind} {cause.what}", templates[cause.kind])
    return template.format(found=_grouped(cause.found), right=_grouped(cause.right), what=_part(cause, pen))


def _part(cause: Cause, pen: _Pen) -> str:
    return PARTS[pen.lang].get(cause.what) or "; ".join(_places(cause.covers, pen))


def _places(covers: Sequence[Cover], pen: _Pen) -> list[str]:
    places = [f"{c.path}{f'.{c.what}' if c.what else ''}: {_counted(c)}" for c in covers[:MOST_PLACES]]
    hidden = len(covers) - MOST_PLACES
    return [*places, pen.say("more", count=hidden)] if hidden > 0 else places


def _counted(cover: Cover) -> str:
    each = format_count(cover.each)
    return each if cover.count == 1 else f"{format_count(cover.count)} × {each}"


def _print_reconciliation(checked: Checked, pen: _Pen) -> None:
    pen.line(pen.say("reconciled"), style="bold")
    pen.line(pen.say("claimed"), format_count(checked.claimed_total))
    for correction in checked.corrections:
        label = f"{correction.label}: " if correction.label else ""
        pen.line(label + _short_cause(correction.cause, pen), _signed(correction.cause.amount), indent=2)
    pen.line(pen.say("true"), format_count(checked.true_total), ok=True)


def _signed(amount: int) -> str:
    return f"{amount:+,}"


def _grouped(number: str) -> str:
    return format_count(int(number)) if number.lstrip("-").isdigit() and len(number) > 5 else number


def _print_blank(blank: GradedBlank, pen: _Pen) -> None:
    name = pen.say("occurs" if blank.blank == "times" else blank.blank)
    pen.line(f"{name}: {blank.answer}", ok=blank.mark == "right")
    if blank.mark != "right":
        key = {"wrong": "expected", "here": "here", "blank": "blank"}[blank.mark]
        pen.line(pen.say(key, expected=_grouped(blank.expected)), indent=2)
    for cause in blank.causes:
        _print_cause(cause, pen)
