"""Arithmetic as people write it, read without running it and worked out exactly.

>>> formula = parse("L(4H² + 4H) + 2 × 30,522 H")
>>> str(formula), sorted(formula.symbols)
('L*(4*H^2 + 4*H) + 2*30522*H', ['H', 'L'])
>>> formula.evaluate({"L": 12, "H": 768})
Fraction(75230208, 1)

What is understood:

- `+ - * / ^ **`, `//` (rounded down), parentheses; × · ÷ − and full-width signs; H² for H^2; `3 x 3` for 3*3.
- Numbers: 1024, 1,024, 1_024, 0.5. Inside `max(1,024)` a comma separates arguments.
- Names: H, d_model, L_d, text_config.hidden_size: always the longest that can be read, so HF is one name. Only where
  the names that exist are given, HF is none of them, and H and F both are, it is H*F.
- A product without a sign between a number, a name or a bracket and a name or a bracket: 4H^2, 2 H F, 3(H + 1), L(4H).
  What follows a division has to have its sign: 1/2H is refused, as it is read in two ways.
- ceil(), floor(), max(), min().

A power binds more tightly than a minus before it (-H^2 is -(H^2)) and is read from the right (2^3^2 is 2^9).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal, NamedTuple, NoReturn, TypeAlias
from unicodedata import east_asian_width

from tonnage.errors import BadOption

FUNCTIONS = ("ceil", "floor", "max", "min")

MOST_CHARACTERS = 2000
MOST_DIGITS = 40
MOST_NESTED = 40
MOST_BITS = 4096
"""Of any value on the way: more than a count can need, and little enough that no input takes long."""


Values: TypeAlias = Mapping[str, int] | Mapping[str, Fraction]


@dataclass(frozen=True)
class Number:
    text: str


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Negative:
    of: Node


@dataclass(frozen=True)
class Sum:
    """Its parts from left to right, each with "+" or "-" before it; the first has "+"."""

    parts: tuple[tuple[Literal["+", "-"], Node], ...]


@dataclass(frozen=True)
class Product:
    """Its parts from left to right, each with "*", "/" or "//" before it; the first has "*"."""

    parts: tuple[tuple[Literal["*", "/", "//"], Node], ...]


@dataclass(frozen=True)
class Power:
    base: Node
    exponent: Node


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[Node, ...]


Node: TypeAlias = Number | Name | Negative | Sum | Product | Power | Call


@dataclass(frozen=True)
class Expression:
    """What a text says, without its layout: equal for texts that are written alike but for spaces and signs."""

    tree: Node

    @property
    def symbols(self) -> set[str]:
        """The names in it."""
        return {node.name for node in _nodes(self.tree) if isinstance(node, Name)}

    @property
    def addends(self) -> list[Expression]:
        """What is added up in it, itself if it is no sum; brackets around a sum are not opened."""
        if not isinstance(self.tree, Sum):
            return [self]
        return [Expression(node if sign == "+" else Negative(node)) for sign, node in self.tree.parts]

    @property
    def factors(self) -> list[Expression]:
        """What is multiplied in it, itself if it is no product, each once: H and F of H^2*F; divisors are left out."""
        parts = self.tree.parts if isinstance(self.tree, Product) else (("*", self.tree),)
        factors = [node.base if isinstance(node, Power) else node for sign, node in parts if sign == "*"]
        return [Expression(node) for node in dict.fromkeys(factors)]

    @property
    def numbers(self) -> list[str]:
        """The numbers written in it, from left to right."""
        return [node.text for node in _nodes(self.tree) if isinstance(node, Number)]

    def with_number(self, place: int, number: int) -> Expression:
        """This with another number in the place of `numbers[place]`.

        >>> str(parse("32100*512 + 512").with_number(0, 32128))
        '32128*512 + 512'
        """
        places = iter(range(len(self.numbers)))
        return Expression(_mapped(self.tree, lambda node: Number(str(number)) if next(places) == place else node))

    def evaluate(self, values: Values) -> Fraction:
        """The value with these numbers for its symbols, exact. `BadOption` names a symbol that has none."""
        return _value(self.tree, values)

    def substituted(self, values: Values) -> str:
        """The text with numbers for symbols.

        >>> parse("4H^2 + H/h").substituted({"H": 768, "h": 12})
        '4*768^2 + 768/12'
        """
        return _text(self.tree, values)

    def __str__(self) -> str:
        return _text(self.tree, {})


def parse(text: str, known: Collection[str] = ()) -> Expression:
    """The expression that `text` is; `known` are the names that exist, if the caller knows them (see the module).

    >>> str(parse("2HF", known={"H", "F"})), str(parse("2HF"))
    ('2*H*F', '2*HF')
    """
    return Expression(_Parser(text, known).whole())


# -- from text to tokens ------------------------------------------------------------------------------------------

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


# -- from tokens to a tree ----------------------------------------------------------------------------------------


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


# -- from a tree to numbers and text ------------------------------------------------------------------------------


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case Negative(of):
            yield from _nodes(of)
        case Sum(parts) | Product(parts):
            for _, part in parts:
                yield from _nodes(part)
        case Power(base, exponent):
            yield from _nodes(base)
            yield from _nodes(exponent)
        case Call(_, arguments):
            for argument in arguments:
                yield from _nodes(argument)


def _mapped(node: Node, change: Callable[[Number], Number]) -> Node:
    """`node` with its numbers changed, from left to right."""
    match node:
        case Number():
            return change(node)
        case Name():
            return node
        case Negative(of):
            return Negative(_mapped(of, change))
        case Sum(parts):
            return Sum(tuple((sign, _mapped(part, change)) for sign, part in parts))
        case Product(factors):
            return Product(tuple((sign, _mapped(factor, change)) for sign, factor in factors))
        case Power(base, exponent):
            return Power(_mapped(base, change), _mapped(exponent, change))
        case Call(function, arguments):
            return Call(function, tuple(_mapped(argument, change) for argument in arguments))


def _value(node: Node, values: Values) -> Fraction:
    match node:
        case Number(text):
            return Fraction(text)
        case Name(name):
            return _looked_up(name, values)
        case Negative(of):
            return -_value(of, values)
        case Sum(parts):
            return sum((_value(part, values) * (1 if sign == "+" else -1) for sign, part in parts), Fraction())
        case Product(parts):
            product = Fraction(1)
            for sign, part in parts:
                product = _bounded(_combined(product, sign, _value(part, values)))
            return product
        case Power(base, exponent):
            return _power(_value(base, values), _value(exponent, values))
        case Call(function, arguments):
            return _called(function, [_value(argument, values) for argument in arguments])


def _looked_up(name: str, values: Values) -> Fraction:
    if name not in values:
        known = ", ".join(sorted(values)) or "none"
        raise BadOption(f"unknown symbol `{name}`", hint=f"known: {known}")
    return Fraction(values[name])


def _combined(left: Fraction, sign: str, right: Fraction) -> Fraction:
    if sign == "*":
        return left * right
    if right == 0:
        raise BadOption("a division by zero in this formula", hint="check the values of its symbols")
    return left / right if sign == "/" else Fraction(left // right)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise BadOption(f"the exponent {exponent} is no whole number", hint="powers are whole: H^2")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and bits * abs(exponent) > MOST_BITS:
        raise BadOption(f"the exponent {exponent} makes a number that no count can be", hint="check the exponent")
    if base == 0 and exponent < 0:
        raise BadOption("a division by zero in this formula", hint="check the values of its symbols")
    return Fraction(base ** int(exponent))


def _called(function: str, arguments: list[Fraction]) -> Fraction:
    match function:
        case "ceil":
            return Fraction(ceil(arguments[0]))
        case "floor":
            return Fraction(floor(arguments[0]))
        case "max":
            return max(arguments)
    return min(arguments)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
        raise BadOption("this formula makes a number that no count can be", hint="check its factors")
    return value


_SUM, _PRODUCT, _FACTOR, _ATOM = range(4)


def _text(node: Node, values: Values, within: int = _SUM) -> str:
    """The text of `node`, in brackets if it binds less tightly than `within` asks."""
    text, binding = _bare(node, values)
    return f"({text})" if binding < within else text


def _bare(node: Node, values: Values) -> tuple[str, int]:
    match node:
        case Number(text):
            return text, _ATOM
        case Name(name):
            return (str(values[name]), _ATOM if values[name] >= 0 else _FACTOR) if name in values else (name, _ATOM)
        case Negative(of):
            return f"-{_text(of, values, _FACTOR)}", _FACTOR
        case Sum(parts):
            return _joined(parts, values, _PRODUCT, " "), _SUM
        case Product(parts):
            return _joined(parts, values, _FACTOR, ""), _PRODUCT
        case Power(base, exponent):
            return f"{_text(base, values, _ATOM)}^{_text(exponent, values, _FACTOR)}", _FACTOR
        case Call(function, arguments):
            return f"{function}({', '.join(_text(argument, values) for argument in arguments)})", _ATOM


def _joined(parts: tuple[tuple[str, Node], ...], values: Values, within: int, space: str) -> str:
    text = _text(parts[0][1], values, within)
    for sign, part in parts[1:]:
        text += f"{space}{sign}{space}{_text(part, values, within)}"
    return text
