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

from tonnage.analyses.expressions.reading import MOST_CHARACTERS, parse
from tonnage.analyses.expressions.tree import Call, Expression, Name, Negative, Node, Number, Power, Product, Sum

__all__ = [
    "MOST_CHARACTERS",
    "Call",
    "Expression",
    "Name",
    "Negative",
    "Node",
    "Number",
    "Power",
    "Product",
    "Sum",
    "parse",
]
