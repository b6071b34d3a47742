"""Which siblings are the same, and in what the others differ.

Two parts are the same when their types, the facts that matter, their tensors (names, shapes, dtypes, what they are
tied to, seen from where they stand) and their children are. What only says where a part stands does not matter, nor
does the rate of stochastic depth, which many models raise from block to block without another difference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct

from tonnage.analyses.describing import describe, sizes
from tonnage.analyses.parts import Model, Part, Tensor

_PLACE = {f"{what}_{how}" for what in ("layer", "block") for how in ("idx", "id", "index", "number")} | {"idx", "index"}
_RATES = {"drop_prob", "drop_path", "drop_path_rate"}
_LISTS = {"Sequential", "ModuleList", "ModuleDict"}
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)")
_ORDER = ("has", "lacks", "is", "size", "fact")
_MOST_DIFFERENCES = 5
"""More than that and the blocks are different things, whose rows say it better."""


class Difference(Struct, frozen=True, kw_only=True):
    """In what blocks differ from their siblings.

    `where` is the path below them, `mine` what they have there and `theirs` what the usual siblings have. Kinds: "has"
    (and the usual ones have not; `mine` is the shape of a single tensor, else ""; `parameters` its elements), "lacks",
    "is" (another type of module, another tensor), "size" (an attribute of a layer, named after the last dot) and "fact"
    (the same of a module with children). `alone` is whether no other of the siblings differs in the same way.
    """

    kind: str
    where: str
    mine: str = ""
    theirs: str = ""
    parameters: int = 0
    description: str = ""
    alone: bool = True

    @property
    def name(self) -> str:
        """What it is called in a sentence: an attribute of a layer with the name of the layer."""
        parts = self.where.split(".")
        return ".".join(parts[-2:] if self.kind == "size" else parts[-1:])

    @property
    def at(self) -> str | None:
        """The path of the child that has it, if there is one."""
        if self.kind == "size":
            return self.where.rpartition(".")[0]
        return self.where if self.kind in ("has", "is") else None


@dataclass(frozen=True)
class Fold:
    """Siblings that are the same, by their places among the children; one alone for most.

    `numbers` are what their names end in where they are numbered. `differences` are all there are to the siblings
    numbered `like`.
    """

    places: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    like: tuple[int, ...] = ()
    differences: tuple[Difference, ...] = ()


class Folding:
    """Folds the children of parts of one model, each kind of part looked at once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._kinds: dict[str, int] = {}
        self._of: dict[int, int] = {}

    def fold(self, children: Sequence[Part]) -> list[Fold]:
        """The children, equal ones of one numbered series together, in the order of the first of each."""
        folds: list[Fold] = []
        place = 0
        for numbered, series in groupby(children, key=_series):
            stretch = list(series)
            places = range(place, place + len(stretch))
            place += len(stretch)
            if numbered is None or len(stretch) == 1:
                folds += (Fold((place,)) for place in places)
            else:
                folds += self._fold_series(stretch, places)
        return folds

    def kind(self, part: Part) -> int:
        """A number that is equal for parts that are the same."""
        known = self._of.get(id(part))
        if known is None:
            key = repr((part.type, part.module.origin, part.same_as, _facts(part), _tensor_keys(part)))
            key += repr([(child.name, self.kind(child)) for child in part.children])
            known = self._of[id(part)] = self._kinds.setdefault(key, len(self._kinds))
        return known

    def _fold_series(self, stretch: Sequence[Part], places: range) -> list[Fold]:
        groups: dict[Any, list[int]] = {}
        before, run = None, 0
        for index, part in enumerate(stretch):
            key: tuple[Any, ...] = (self.kind(part),)
            if not part.children:  # layers in a row are steps of a computation: only neighbours may be one row
                key = (*key, self.model.output_shape(part))
                run += key != before
                before, key = key, (*key, run)
            groups.setdefault(key, []).append(index)
        found = list(groups.values())
        usual = max(reversed(found), key=len)
        alike = len({part.type for part in stretch}) == 1
        numbers = [_number(part) for part in stretch]
        differences = [
            self._differences(stretch[group[0]], stretch[usual[0]]) if alike and group is not usual else ()
            for group in found
        ]
        often = Counter(difference for those in differences for difference in those)
        return [
            Fold(
                tuple(places[i] for i in group),
                tuple(numbers[i] for i in group),
                tuple(numbers[i] for i in usual) if those else (),
                tuple(msgspec.structs.replace(difference, alone=often[difference] == 1) for difference in those),
            )
            for group, those in zip(found, differences, strict=True)
        ]

    def _differences(self, odd: Part, norm: Part) -> tuple[Difference, ...]:
        """In what `odd` differs from `norm`, the usual one of a series of one type; nothing where that is no help."""
        if odd.type in _LISTS or not odd.children:
            return ()
        found = sorted(self._compare(odd, norm, ""), key=lambda d: _ORDER.index(d.kind))
        return tuple(found) if len(found) <= _MOST_DIFFERENCES else ()

    def _compare(self, odd: Part, norm: Part, at: str) -> Iterator[Difference]:
        """In what two parts of one type differ, from the top down."""
        if self.kind(odd) == self.kind(norm):
            return
        where = f"{at}." if at else ""
        mine, theirs = dict(_facts(odd)), dict(_facts(norm))
        kind = "fact" if odd.children or not at else "size"
        sizes_differ = False
        for name in sorted(mine.keys() | theirs.keys()):
            a, b = mine.get(name), theirs.get(name)
            if a != b and not _said_by_child(name, odd, norm):
                sizes_differ = kind == "size"
                yield Difference(kind=kind, where=where + name, mine=_said(a), theirs=_said(b))
        for name in dict.fromkeys((*norm.by_name, *odd.by_name)):
            yield from self._compare_child(odd.by_name.get(name), norm.by_name.get(name), where + name)
        if not sizes_differ:
            yield from _compare_tensors(odd, norm, where)

    def _compare_child(self, odd: Part | None, norm: Part | None, where: str) -> Iterator[Difference]:
        odd, norm = _unless_nothing(odd), _unless_nothing(norm)
        if odd is None and norm is not None:
            yield Difference(kind="lacks", where=where, description=describe(norm))
        elif odd is not None and norm is None:
            yield _has(odd, where)
        elif odd is not None and norm is not None and odd.type != norm.type:
            yield Difference(kind="is", where=where, mine=describe(odd), theirs=describe(norm))
        elif odd is not None and norm is not None:
            yield from self._compare(odd, norm, where)


def _series(part: Part) -> str | None:
    """What the names of a series of repeated siblings share; None for a part that is no such thing.

    "norm1" and "norm2" are two roles, not two of a kind: a name with letters counts for parts with children alone.
    """
    match = _NUMBERED.fullmatch(part.name)
    if match is None or part.same_as or (match["prefix"] and not part.children):
        return None
    return match["prefix"]


def _number(part: Part) -> int:
    match = _NUMBERED.fullmatch(part.name)
    assert match is not None, part.name
    return int(match["number"])


def _facts(part: Part) -> list[tuple[str, Any]]:
    ignored = _PLACE | _RATES | ({"p"} if part.type == "StochasticDepth" else set())
    return sorted((name, value) for name, value in part.facts.items() if name not in ignored)


def _tensor_keys(part: Part) -> list[tuple[Any, ...]]:
    return [(t.name, t.shape, t.dtype, t.kind, t.trainable, _seen_from(part.path, t.tied_to)) for t in part.tensors]


def _seen_from(path: str, target: str) -> tuple[int, str]:
    """`target` as levels up from `path` and the rest: the same for the same place in two blocks."""
    if not target:
        return (0, "")
    here, there = path.split("."), target.split(".")
    shared = 0
    while shared < min(len(here), len(there)) and here[shared] == there[shared]:
        shared += 1
    return (len(here) - shared, ".".join(there[shared:]))


def _said_by_child(fact: str, odd: Part, norm: Part) -> bool:
    """Whether an attribute only says that a child is there: has_bias beside bias, downsample None beside downsample."""
    children = odd.by_name.keys() ^ norm.by_name.keys()
    return fact in children or fact.removeprefix("has_") in children


def _said(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _unless_nothing(part: Part | None) -> Part | None:
    return None if part is None or part.type == "Identity" else part


def _has(part: Part, where: str) -> Difference:
    single = part.tensors[0] if len(part.tensors) == 1 and not part.children else None
    shape = sizes(single.shape) if single and single.parameters else ""
    return Difference(kind="has", where=where, mine=shape, parameters=part.parameters, description=describe(part))


def _compare_tensors(odd: Part, norm: Part, where: str) -> Iterator[Difference]:
    mine, theirs = ({t.name: t for t in part.tensors} for part in (odd, norm))
    keys = [{key[0]: key for key in _tensor_keys(part)} for part in (odd, norm)]
    for name in dict.fromkeys((*theirs, *mine)):
        if name not in mine:
            yield Difference(kind="lacks", where=where + name)
        elif name not in theirs:
            shape = sizes(mine[name].shape)
            yield Difference(kind="has", where=where + name, mine=shape, parameters=mine[name].parameters)
        elif keys[0][name] != keys[1][name]:
            yield Difference(
                kind="is", where=where + name, mine=_said_tensor(mine[name]), theirs=_said_tensor(theirs[name])
            )


def _said_tensor(tensor: Tensor) -> str:
    words = [sizes(tensor.shape), tensor.dtype, "" if tensor.trainable or tensor.kind == "buffer" else "frozen"]
    return " ".join(word for word in (*words, tensor.tied_to and f"= {tensor.tied_to}") if word)
