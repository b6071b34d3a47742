"""Bytes and counts to and from text: the only place that knows 1024."""

from __future__ import annotations

import re

from tonnage.errors import BadOption

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40

_BINARY = {"B": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}
_DECIMAL = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES = {name.lower(): size for name, size in (_BINARY | _DECIMAL).items()}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def format_bytes(n: int) -> str:
    """`n` in the largest binary unit that keeps it at 1 or more, halves rounded up as on paper.

    >>> format_bytes(8519680), format_bytes(512), format_bytes(-2 * GiB)
    ('8.13 MiB', '512 B', '-2.00 GiB')
    """
    for name, size in reversed(_BINARY.items()):
        if abs(n) >= size > 1:
            hundredths = (abs(n) * 100 + size // 2) // size
            return f"{'-' if n < 0 else ''}{hundredths // 100:,}.{hundredths % 100:02} {name}"
    return f"{n} B"


def format_bandwidth(bytes_per_second: int) -> str:
    """A memory bandwidth in GB/s, decimal as every data sheet writes it; amounts of memory are never in GB.

    >>> format_bandwidth(320_000_000_000)
    '320 GB/s'
    """
    return f"{bytes_per_second / 10**9:,.0f} GB/s"


def parse_bytes(text: str) -> int:
    """The bytes that `text` names; a bare number is bytes.

    >>> parse_bytes("6GiB"), parse_bytes("24 GB"), parse_bytes("1024")
    (6442450944, 24000000000, 1024)
    """
    match = _PATTERN.fullmatch(text)
    unit = _BYTES.get((match[2] or "B").lower()) if match else None
    if match is None or unit is None:
        raise BadOption(
            f"`{text}` is no amount of memory",
            hint="write a number and a unit, such as 6GiB, 5806MiB or 24GB",
        )
    return round(float(match[1]) * unit)


def format_count(n: int) -> str:
    """`n` with thousands separated, every digit shown.

    >>> format_count(109482240)
    '109,482,240'
    """
    return f"{n:,}"


def short_count(n: int) -> str:
    """`n` in thousands, millions or billions, to three or four digits.

    >>> short_count(109482240), short_count(70553706496), short_count(512)
    ('109.5 M', '70.55 B', '512')
    """
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if abs(n) >= size:
            return f"{n / size:.4g} {letter}"
    return str(n)


def format_work(n: int, unit: str) -> str:
    """`n` operations with a decimal prefix; `unit` is "MAC" or "FLOP", which are never mixed.

    >>> format_work(11174215680, "MAC"), format_work(312, "FLOP")
    ('11.17 GMAC', '312 FLOP')
    """
    for size, prefix in ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(n) >= size:
            return f"{n / size:.4g} {prefix}{unit}"
    return f"{n} {unit}"
