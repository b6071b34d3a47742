"""What one operator costs: multiply-accumulates, other floating-point work and bytes moved, or that nobody knows.

    cost(Op("aten.mm.default", 0, 1, (a, b), (c,)))  # a (4, 8), b (8, 16): Cost(kind="matrix product", macs=512, ...)

One file for each family of operators. What is in none of them is Unknown, with the reason, and never a zero.
"""

from tonnage.costs.attention import FLASH, Padding
from tonnage.costs.cost import Cost, Unknown
from tonnage.costs.lookup import cost

__all__ = ["FLASH", "Cost", "Padding", "Unknown", "cost"]
