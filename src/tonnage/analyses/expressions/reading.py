"""From text to tokens to a tree."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple, NoReturn
from unicodedata import east_asian_width

from tonnage.analyses.expressions.tree import (
    FUNCTIONS,
    Call,
    Expression,
    Name,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Sum,
)
from tonnage.errors import BadOption

MOST_CHARACTERS = 2000
MOST_DIGITS = 40
MOST_NESTED = 40


def parse(text: str, known: Collection[str] = ()) -> Expression:
    """The expression that `text` is; `known` are the names that exist, if the caller knows them (see the package).

    >>> str(parse("2HF", known={"H", "F"})), str(parse("2HF"))
    ('2*H*F', '2*HF')
    """
    return Expression(_Parser(text, known).whole())


SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_TYPESET_SPACES = "\u00a0\u2009\u202f"  # in a number these can only separate thousands
_ONE_FOR_ONE = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms of ASCII
    **dict.fromkeys(map(ord, "×·∙⋅•✕∗"), "*"),
    **dict.fromkeys(map(ord, "÷∕⁄"), "/"),
    **dict.fromkeys(map(ord, "−–—"), "-"),
    ord("、"): ",",
    0x3000: " ",
}
"""Each sign becomes exactly one other, so that a position in the text stays what it was."""

_LETTER = rf"[^\W\d{SUPERSCRIPTS}]"
_NAME = re.compile(rf"{_LETTER}[^\W{SUPERSCRIPTS}]*(?:\.{_LETTER}[^\W{SUPERSCRIPTS}]*)*")
_TIMES = re.compile(r"[xX](?=[0-9(]|\s+[\w(])")
_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_GROUPED = r"[0-9]{1,3}(?:SEPARATOR[0-9]{3})+(?![0-9])"
_WITH_GROUPS = re.compile(_GROUPED.replace("SEPARATOR", f"[_,{_TYPESET_SPACES}]"))
_WITHOUT_COMMAS = re.compile(_GROUPED.replace("SEPARATOR", f"[_{_TYPESET_SPACES}]"))
_SIGN = re.compile(r"\*\*|//|[-+*/^(),]")
_SUPERSCRIPT = re.compile(f"[{SUPERSCRIPTS}]+")

_Kind = Literal["number", "name", "superscript", "sign", "end"]


class _Token(NamedTuple):
    kind: _Kind
    text: str
    at: int
    end: int


_START = _Token("sign", "", 0, 0)


class _Lexer:
    def __init__(self, text: str, known: Collection[str]) -> None:
        self.text = text
        self.plain = text.translate(_ONE_FOR_ONE)
        self.known = known

    def tokens(self) -> Iterator[_Token]:
        last, brackets = _START, [False]
        at = self._skip_spaces(0)
        while at < len(self.plain):
            token = self._read(at, last, in_call=brackets[-1])
            if token.text == "(":
                brackets.append(last.kind == "name" and last.text in FUNCTIONS)
            elif token.text == ")" and len(brackets) > 1:
                brackets.pop()
            yield from self._split(token)
            last, at = token, self._skip_spaces(token.end)
        yield _Token("end", "", at, at)

    def _skip_spaces(self, at: int) -> int:
        while at < len(self.plain) and self.plain[at].isspace():
            at += 1
        return at

    def _read(self, at: int, last: _Token, *, in_call: bool) -> _Token:
        after_operand = last.kind in ("number", "superscript", "name") or last.text == ")"
        if after_operand and self.plain[at] not in self.known and (found := _TIMES.match(self.plain, at)):
            return _Token("sign", "*", at, found.end())
        if found := _NAME.match(self.plain, at):
            return _Token("name", found[0], at, found.end())
        if found := _SUPERSCRIPT.match(self.plain, at):
            digits = "".join(str(SUPERSCRIPTS.index(digit)) for digit in found[0])
            return _Token("superscript", digits, at, found.end())
        if found := _SIGN.match(self.plain, at):
            return _Token("sign", found[0].replace("**", "^"), at, found.end())
        return self._number(at, in_call=in_call)

    def _number(self, at: int, *, in_call: bool) -> _Token:
        grouped = _WITHOUT_COMMAS if in_call else _WITH_GROUPS
        found = grouped.match(self.plain, at) or _PLAIN_NUMBER.match(self.plain, at)
        if found is None:
            refuse(self.text, at, f"`{self.text[at]}` means nothing in a formula", "use numbers, names, + - * / ^ ( )")
        if re.match("0[0-9]", found[0]):
            refuse(self.text, at, f"{found[0]} starts with a 0", "write 1,024 for thousands, in max() and min() 1024")
        if len(found[0]) > MOST_DIGITS:
            refuse(self.text, at, f"a number of more than {MOST_DIGITS} digits", "no count is as large")
        digits = re.sub(r"[^0-9.]", "", found[0])
        return _Token("number", digits, at, found.end())

    def _split(self, token: _Token) -> Iterator[_Token]:
        """`token`, or a token for each letter of a name that is a product of known letters."""
        letters = token.text
        if token.kind != "name" or letters in self.known or not all(letter in self.known for letter in letters):
            yield token
            return
        for offset, letter in enumerate(letters):
            yield _Token("name", letter, token.at + offset, token.at + offset + 1)


def refuse(text: str, at: int, found: str, hint: str) -> NoReturn:
    """Raises `BadOption` with the place in the text marked."""
    start = max(0, at - 30)
    shown = "".join(c if c.isprintable() else "?" for c in text[start : at + 30])
    width = sum(2 if east_asian_width(c) in "WF" else 1 for c in shown[: at - start])
    raise BadOption(
        f"cannot read this formula: {found}, at character {at + 1}\n    {shown}\n    {' ' * width}^", hint=hint
    )


class _Parser:
    """A recursive descent, one method for each level of binding; sums and products are flat, so long ones do not nest.

    sum: product (+|- product)*; product: factor ((*|/|//|nothing) factor)*; factor: -factor | power;
    power: atom ^ factor; atom: number | name | function(sum, ...) | (sum)
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        if len(text) > MOST_CHARACTERS:
            raise BadOption(
                f"a formula of {len(text):,} characters; at most {MOST_CHARACTERS:,} are read",
                hint="write it as several terms",
            )
        self.text = text
        self.tokens = list(_Lexer(text, known).tokens())
        self.next = 0
        self.depth = 0

    def whole(self) -> Node:
        if self._peek().kind == "end":
            raise BadOption("an empty formula", hint="write one such as 4H^2 + 4H, or a number")
        tree = self._sum()
        if self._peek().kind != "end":
            self._unexpected()
        return tree

    def _peek(self) -> _Token:
        return self.tokens[self.next]

    def _take(self, *signs: str) -> str:
        """The sign that comes next, if it is one of these; else ""."""
        token = self._peek()
        if token.kind == "sign" and token.text in signs:
            self.next += 1
            return token.text
        return ""

    def _sum(self) -> Node:
        parts = [("+", self._product())]
        while sign := self._take("+", "-"):
            parts.append((sign, self._product()))
        return Sum(tuple(parts)) if len(parts) > 1 else parts[0][1]  # type: ignore[arg-type]

    def _product(self) -> Node:
        parts = [("*", self._factor())]
        while (sign := self._take("*", "/", "//")) or self._operand_follows():
            if not sign and parts[-1][0] != "*":
                self._refuse("a division and then a product without a sign", "write (1/2)*H or 1/(2*H)")
            parts.append((sign or "*", self._factor()))
        return Product(tuple(parts)) if len(parts) > 1 else parts[0][1]  # type: ignore[arg-type]

    def _operand_follows(self) -> bool:
        token = self._peek()
        if token.kind == "number":
            self._refuse(f"{token.text} right after another value", "put * between them, or write 1,024 for thousands")
        return token.kind == "name" or token.text == "("

    def _factor(self) -> Node:
        self.depth += 1
        if self.depth > MOST_NESTED:
            self._refuse(f"more than {MOST_NESTED} levels of brackets, signs and powers", "write it as several terms")
        node = self._signed()
        self.depth -= 1
        return node

    def _signed(self) -> Node:
        if self._take("-"):
            return Negative(self._factor())
        if self._take("+"):
            return self._factor()
        base = self._atom()
        while self._peek().kind == "superscript":
            base = Power(base, Number(self._peek().text))
            self.next += 1
        return Power(base, self._factor()) if self._take("^") else base

    def _atom(self) -> Node:
        token = self._peek()
        if self._take("("):
            return self._closed(self._sum())
        if token.kind == "number":
            self.next += 1
            return Number(token.text)
        if token.kind == "name":
            self.next += 1
            is_call = token.text in FUNCTIONS and self._take("(")
            return self._call(token.text) if is_call else Name(token.text)
        return self._unexpected()

    def _call(self, function: str) -> Node:
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        if len(arguments) > 1 and function in ("ceil", "floor"):
            self._refuse(f"{function}() of {len(arguments)} values", f"{function}() takes one")
        return self._closed(Call(function, tuple(arguments)))

    def _closed(self, node: Node) -> Node:
        if not self._take(")"):
            self._unexpected()
        return node

    def _unexpected(self) -> NoReturn:
        token = self._peek()
        if token.kind == "end":
            self._refuse("it ends too early", "is a value or a ) missing?")
        self._refuse(
            f"`{self.text[token.at : token.end]}` where it cannot be", "is a value, a sign or a bracket missing?"
        )

    def _refuse(self, found: str, hint: str) -> NoReturn:
        refuse(self.text, self._peek().at, found, hint)
