"""The tree of the structure page: what is shown of each node, and what is left out as it is told elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from tonnage.analyses.describing import sizes
from tonnage.analyses.folding import Difference
from tonnage.analyses.parts import Tensor
from tonnage.analyses.structure import Node
from tonnage.render.sentences import Language, fill
from tonnage.render.text import Glyphs
from tonnage.units import format_bytes, format_count

_LISTS = {"ModuleList", "ModuleDict"}
"""They hold modules and do nothing; their children are shown in their place."""
_MOST_RUNS = 3
"""Runs of numbers of folded blocks that are shown; the JSON has all."""
OTHER_SHAPES = ".."
"""Behind the shape of a first call that is not that of all."""
_BRACES = re.compile(r"\{([^}]*)\}")
_NUMBERS = re.compile(r"\{([^}]*)\}$|(\d+)$")


@dataclass(frozen=True)
class Branch:
    """A row of the tree and what hangs from it. `node` is what it shows, if not a tensor; `whole` or in part."""

    label: str
    cells: dict[str, str]
    children: list[Branch] = field(default_factory=list)
    remark: str = ""
    node: Node | None = None
    whole: bool = False

    def walk(self) -> Iterator[Branch]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Line:
    """A branch with what is drawn in front of its label, and in front of the lines that the label goes on in."""

    branch: Branch
    bars: str
    hang: str


def branch_of(root: Node, language: Language, *, depth: int | None = None) -> Branch:
    """What is shown of a tree, at most `depth` levels below its root."""
    return _branch(root, root.description, language, depth, None)


def lines(branch: Branch, glyphs: Glyphs, bars: str = "", below: str = "") -> Iterator[Line]:
    """The rows from the top, each with its bars."""
    through, fork, end, blank = ("│ ", "├ ", "└ ", "  ") if glyphs.unicode else ("| ", "|-", "`-", "  ")
    yield Line(branch, bars, below + (through if branch.children else blank))
    for child in branch.children:
        last = child is branch.children[-1]
        yield from lines(child, glyphs, below + (end if last else fork), below + (blank if last else through))


def does_nothing(node: Node) -> bool:
    """A stand-in for a part that this model does not have; it has no row."""
    return node.type == "Identity" and not node.children


def shown_path(path: str) -> str:
    """A path with the numbers of folded blocks as the tree shows them: "encoder.layer.0-11.attention"."""
    return _BRACES.sub(lambda found: shown_numbers(found[1]), path)


def shown_numbers(ranges: str) -> str:
    """The first runs of folded numbers and the last.

    >>> shown_numbers("0-4"), shown_numbers("0,2,4,6,8,10")
    ('0-4', '0,2,..,10')
    """
    runs = ranges.split(",")
    return ranges if len(runs) <= _MOST_RUNS else ",".join((*runs[: _MOST_RUNS - 1], "..", runs[-1]))


def _branch(node: Node, label: str, language: Language, depth: int | None, only: Collection[str] | None) -> Branch:
    """The branch of a node; with `only`, what of it differs from its siblings: those paths below it and the way there.

    The rest is what the row of the usual sibling shows already.
    """
    children: list[Branch] = []
    if depth is None or depth > 0:
        below = None if depth is None else depth - 1
        children += [
            Branch(_tensor_label(tensor), _tensor_cells(node, tensor))
            for tensor in node.tensors
            if _has_row(node, tensor) and (only is None or tensor.name in only)
        ]
        for child, prefix, left in _shown_children(node, only):
            children.append(_branch(child, prefix + _label(child), language, below, left))
    remark = difference_text(node, language) if node.differences else ""
    return Branch(label, _cells(node), children, remark, node, whole=only is None)


def _shown_children(node: Node, only: Collection[str] | None) -> Iterator[tuple[Node, str, list[str] | None]]:
    """The children that have a row, each with what its name stands behind (the names of lists) and its own `only`."""
    numbers = {_shown_ranges(child) for child in node.children}
    for child in node.children:
        left = None if only is None else _below(child, only)
        if left == [] or does_nothing(child):
            continue
        if left is not None and "" in left:
            left = None
        if left is None and child.differences and child.like in numbers:
            left = [difference.at for difference in child.differences if difference.at is not None]
        if child.type in _LISTS and child.children and child.explanation is None:
            yield from ((c, f"{_name(child)}.{prefix}", rest) for c, prefix, rest in _shown_children(child, left))
        else:
            yield child, "", left


def _below(child: Node, only: Collection[str]) -> list[str]:
    """Those of the paths that lead to `child` or into it, from there; "" for itself."""
    names = {path.rpartition(".")[2] for path in child.paths()}
    split = (path.partition(".") for path in only)
    return [rest for head, _, rest in split if head in names]


def difference_text(node: Node, language: Language) -> str:
    """How blocks differ from their siblings, in a sentence."""
    words = language.differences
    many = "many" if node.repeats > 1 else "one"
    held_in = node.path.rpartition(".")[0].rpartition(".")[2]
    sort = "layer" if held_in.lower().rstrip("s").endswith("layer") else "block"
    who = fill(language.words[f"{sort}_{many}"], numbers=shown_numbers(_shown_ranges(node)))
    said = []
    for alone in (True, False):
        items = [_difference_text(d, language) for d in node.differences if d.alone is alone]
        if items:
            template = words[f"{'alone' if alone else 'shared'}_{many}"]
            said.append(fill(template, who=who, items=words["comma"].join(items)))
    said.append(fill(words["otherwise"], like=shown_numbers(node.like)))
    return words["semicolon"].join(said)


def _difference_text(difference: Difference, language: Language) -> str:
    words = language.differences
    size = ""
    if difference.kind == "has" and difference.mine:
        size = fill(words["size_of_tensor"], shape=difference.mine, parameters=difference.parameters)
    elif difference.parameters:
        size = fill(words["size_of_module"], parameters=difference.parameters)
    name = difference.name
    if name.isdigit() and difference.description:
        name = f"{name} ({difference.description})"
    return fill(words[difference.kind], name=name, size=size, mine=difference.mine, theirs=difference.theirs)


def _shown_ranges(node: Node) -> str:
    """The numbers of a folded node, or what its name ends in."""
    found = _NUMBERS.search(node.name)
    return found[1] or found[2] if found else ""


def _name(node: Node) -> str:
    return shown_path(node.name)


def _label(node: Node) -> str:
    what = f"{node.repeats} x {node.description}" if node.repeats > 1 else node.description
    return f"{_name(node)}: {what}" + (f" = {node.same_as}" if node.same_as else "")


def _cells(node: Node) -> dict[str, str]:
    count = format_count(node.parameters)
    counted_elsewhere = node.same_as or any(t.tied_to and t.kind == "parameter" for t in node.tensors)
    none = "0" if counted_elsewhere else ""
    return {
        "output": _output(node),
        "parameters": (f"{node.repeats} x {count}" if node.repeats > 1 else count) if node.parameters else none,
        "share": _percent(node.share) if node.parameters else "",
        "macs": f"{'>= ' if node.macs_at_least else ''}{format_count(node.macs)}" if node.macs else "",
        "kept": format_bytes(node.kept_bytes) if node.kept_bytes else "",
        "dtype": ", ".join(node.dtypes),
    }


def _output(node: Node) -> str:
    """The shape of the first tensor that came out and is no scalar, with how often each module was called."""
    if not node.outputs:
        return ""
    shape = str(list(next((output.shape for output in node.outputs if output.shape), ())))
    each, rest = divmod(node.calls or 0, node.times)
    if node.outputs_differ:
        return f"{shape} {OTHER_SHAPES}"
    return f"{each} x {shape}" if each > 1 and not rest else shape


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _has_row(node: Node, tensor: Tensor) -> bool:
    """Parameters that the description of their module does not tell of, and all that are tied."""
    if tensor.kind != "parameter":
        return False
    told = node.description != node.type and not node.children
    return bool(tensor.tied_to) or not told


def _tensor_label(tensor: Tensor) -> str:
    if tensor.tied_to:
        return f"{tensor.name} = {tensor.tied_to}"
    return f"{tensor.name}: {sizes(tensor.shape)}" + ("" if tensor.trainable else ", frozen")


def _tensor_cells(node: Node, tensor: Tensor) -> dict[str, str]:
    if not tensor.parameters:
        return {}
    share = node.share * tensor.parameters / node.parameters
    return {"parameters": format_count(tensor.parameters), "share": _percent(share), "dtype": tensor.dtype}
