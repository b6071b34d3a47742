"""Formulas in LaTeX."""

from __future__ import annotations

import re


def latex_of(text: str) -> str:
    r"""A formula as written here in LaTeX.

    >>> latex_of("V*H + L*(4*H^2 + 9*H_t)"), latex_of("n^2*H/p^2")
    ('V H + L \\left(4 H^{2} + 9 H_{t}\\right)', '\\frac{n^{2} H}{p^{2}}')
    >>> latex_of("9*ceil(n/2)^2 + floor((n - 3)/4)")
    '9 \\lceil \\frac{n}{2} \\rceil^{2} + \\lfloor \\frac{n - 3}{4} \\rfloor'
    """
    text = re.sub(r"(ceil|floor)\(\(([^()]*)\)/(\d+)\)", r"\\l\1 \\frac{\2}{\3} \\r\1", text)
    text = re.sub(r"(ceil|floor)\(([^()]*)\)", r"\\l\1 \2 \\r\1", text)
    text = re.sub(r"([\w.^*\[\]]+)/(\(([^()]*)\)|[\w.^\[\]]+)", lambda m: rf"\frac{{{m[1]}}}{{{m[3] or m[2]}}}", text)
    text = re.sub(r"\^(\d+)", r"^{\1}", text)
    text = re.sub(r"\b([A-Za-z])_(\w+)", r"\1_{\2}", text)
    text = re.sub(r"(?<![\\A-Za-z_{])([A-Za-z][A-Za-z]\w+)", _named, text)
    return (
        re.sub(r"(\d)\*(?=\d)", r"\1 \\cdot ", text).replace("*", " ").replace("(", r"\left(").replace(")", r"\right)")
    )


def _named(match: re.Match[str]) -> str:
    escaped = match[1].replace("_", r"\_")
    return match[1] if match[1] in ("frac", "cdot", "left", "right") else rf"\mathrm{{{escaped}}}"
