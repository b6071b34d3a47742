"""How a textbook counts the parameters of one module, in its own letters and with numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

from tonnage.analyses.expressions import parse
from tonnage.trace import Module

Shapes = Mapping[str, tuple[int, ...]]


class Textbook(NamedTuple):
    """A count in letters, and with numbers: "(in + 1)*out", "(784 + 1)*128"; "" for letters where none are usual."""

    formula: str
    worked: str


def textbook(module: Module, shapes: Shapes) -> Textbook:
    """The usual arithmetic for `module`, whose own parameters have `shapes`; else their sizes multiplied.

    Modules go by the names of their classes, and one of the user's may be called like one of PyTorch's.

    >>> conv = Module("", "Conv2d", "torch.nn.modules.conv", {"kernel_size": (3, 3), "groups": 1})
    >>> textbook(conv, {"weight": (128, 64, 3, 3), "bias": (128,)})
    Textbook(formula='(k*k*C_in + 1)*C_out', worked='(3*3*64 + 1)*128')
    """
    for kinds, rule in _RULES.items():
        if module.type in kinds:
            found = rule(module.facts, shapes)
            if found is not None and _count(found.worked) == _elements(shapes):
                return found
    return Textbook("", " + ".join("*".join(map(str, shape)) or "1" for shape in shapes.values()))


def _count(worked: str) -> int:
    return int(parse(worked).evaluate({}))


def _elements(shapes: Shapes) -> int:
    return sum(map(prod, shapes.values()))


def _linear(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
    if len(shapes.get("weight", ())) != 2:
        return None
    out, wide = shapes["weight"]
    if "bias" in shapes:
        return Textbook("(in + 1)*out", f"({wide} + 1)*{out}")
    return Textbook("in*out", f"{wide}*{out}")


def _transposed_linear(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
    """Conv1D of GPT-2, which is a Linear that keeps its weight the other way round."""
    if len(shapes.get("weight", ())) != 2:
        return None
    wide, out = shapes["weight"]
    return Textbook("(in + 1)*out", f"({wide} + 1)*{out}")


def _convolution(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
    kernel = facts.get("kernel_size")
    if len(shapes.get("weight", ())) < 2 or not isinstance(kernel, tuple):
        return None
    transposed = facts.get("transposed", False)
    first, second = shapes["weight"][:2]
    groups = facts.get("groups", 1)
    wide, out = (first, second * groups) if transposed else (second * groups, first)
    sides = "*".join(["k"] * len(kernel)) if len(set(kernel)) == 1 else "*".join(f"k_{i}" for i in range(len(kernel)))
    numbers = "*".join(map(str, kernel))
    if groups == wide == out:
        return _biased(f"{sides}", numbers, "C", out, shapes)
    per_group, divided = ("C_in/g", f"{wide}/{groups}") if groups > 1 else ("C_in", str(wide))
    return _biased(f"{sides}*{per_group}", f"{numbers}*{divided}", "C_out", out, shapes)


def _biased(each: str, numbers: str, name: str, out: int, shapes: Shapes) -> Textbook:
    if "bias" in shapes:
        return Textbook(f"({each} + 1)*{name}", f"({numbers} + 1)*{out}")
    return Textbook(f"{each}*{name}", f"{numbers}*{out}")


def _norm(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
    widths = set(shapes.values())
    if len(widths) != 1:
        return None
    sizes = "*".join(map(str, widths.pop()))
    return Textbook("2*C", f"2*{sizes}") if len(shapes) == 2 else Textbook("C", sizes)


def _embedding(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
    if len(shapes.get("weight", ())) != 2:
        return None
    rows, width = shapes["weight"]
    return Textbook("V*d", f"{rows}*{width}")


def _attention(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
    """Q, K and V in one matrix; the output projection is a module of its own."""
    if len(shapes.get("in_proj_weight", ())) != 2:
        return None
    width = shapes["in_proj_weight"][1]
    if "in_proj_bias" in shapes:
        return Textbook("3*(d*d + d)", f"3*({width}*{width} + {width})")
    return Textbook("3*d*d", f"3*{width}*{width}")


def _recurrent(gates: int) -> Callable[[Mapping[str, Any], Shapes], Textbook | None]:
    """Two matrices and two biases for each gate, layer and direction: the eight biases of an LSTM."""

    def rule(facts: Mapping[str, Any], shapes: Shapes) -> Textbook | None:
        wide, hidden, layers = (facts.get(name) for name in ("input_size", "hidden_size", "num_layers"))
        if not (isinstance(wide, int) and isinstance(hidden, int) and isinstance(layers, int)):
            return None
        ways = 2 if facts.get("bidirectional") else 1
        biased = bool(facts.get("bias"))
        each = [
            f"{gates}*({hidden}*({hidden} + {w}){f' + 2*{hidden}' if biased else ''})" for w in (wide, ways * hidden)
        ]
        letters = [f"{gates}*(h*(h + {w}){' + 2*h' if biased else ''})" for w in ("in", "h" if ways == 1 else "2*h")]
        worked = f"{ways}*{each[0]}" if ways > 1 else each[0]
        formula = f"2*{letters[0]}" if ways > 1 else letters[0]
        if layers > 1:
            more = ways * (layers - 1)
            worked += f" + {more}*{each[1]}" if more > 1 else f" + {each[1]}"
            formula += f" + {'2*' if ways > 1 else ''}(layers - 1)*{letters[1]}"
        return Textbook(formula, worked)

    return rule


_RULES: dict[tuple[str, ...], Callable[[Mapping[str, Any], Shapes], Textbook | None]] = {
    ("Linear", "NonDynamicallyQuantizableLinear", "LazyLinear"): _linear,
    ("Conv1D",): _transposed_linear,
    tuple(f"Conv{way}{n}d" for way in ("", "Transpose") for n in (1, 2, 3)): _convolution,
    (
        *(f"BatchNorm{n}d" for n in (1, 2, 3)),
        *("LayerNorm", "GroupNorm", "RMSNorm", "LayerNorm2d", "SyncBatchNorm", "BatchNormAct2d"),
    ): _norm,
    ("Embedding", "EmbeddingBag"): _embedding,
    ("MultiheadAttention",): _attention,
    ("LSTM",): _recurrent(4),
    ("GRU",): _recurrent(3),
    ("RNN",): _recurrent(1),
}
