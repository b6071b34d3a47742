"""Paths of modules that repeat, as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby


def folded(paths: Sequence[str]) -> str:
    """Paths that differ in numbers or in one name, as one.

    >>> folded(["layer.0.q", "layer.1.q", "layer.2.q", "layer.0.k", "layer.1.k", "layer.2.k"]), folded(["0", "2", "4"])
    ('layer.{0-2}.{q,k}', '{0,2,4}')
    >>> folded(["encoder_layer_0.mlp", "encoder_layer_1.mlp"]), folded(["bn1", "bn2"])
    ('encoder_layer_{0,1}.mlp', '{bn1,bn2}')
    """
    columns = [list(dict.fromkeys(column)) for column in zip(*(path.split(".") for path in paths), strict=True)]
    return ".".join(column[0] if len(column) == 1 else _together(column) for column in columns)


def braced(numbers: Iterable[int]) -> str:
    """Numbers in braces, runs of three or more shortened.

    >>> braced([0, 1, 2, 5, 6])
    '{0-2,5,6}'
    """
    runs = [[n for _, n in run] for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])]
    return "{" + ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs) + "}"


def _together(names: Sequence[str]) -> str:
    """Numbers of repeats stand alone or after an underscore (layer_3); that of bn3 names a place of its own."""
    stems = {name.rstrip("0123456789") for name in names}
    stem = stems.pop()
    if stems or (stem and not stem.endswith("_")) or not all(name[-1].isdecimal() for name in names):
        return "{" + ",".join(names) + "}"
    return stem + braced(int(name.removeprefix(stem)) for name in names)
