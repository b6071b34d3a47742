"""What a formula says, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal, TypeAlias

from tonnage.errors import BadOption

FUNCTIONS = ("ceil", "floor", "max", "min")
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

        >>> from tonnage.analyses.expressions import parse
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

        >>> from tonnage.analyses.expressions import parse
        >>> parse("4H^2 + H/h").substituted({"H": 768, "h": 12})
        '4*768^2 + 768/12'
        """
        return _text(self.tree, values)

    def __str__(self) -> str:
        return _text(self.tree, {})


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
