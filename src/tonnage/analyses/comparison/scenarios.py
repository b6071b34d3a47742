"""Whether two recordings are of the same run: what differs between them, as far as they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tonnage.analyses.comparison.sides import Side
from tonnage.errors import BadOption
from tonnage.ledger import Category
from tonnage.recording import Recording
from tonnage.units import format_count

_FIELDS = ("mode", "batch", "seq", "image_size", "precision", "optimizer", "attention", "checkpointing")
UNKNOWN = "unknown"
"""What a memory snapshot says of the versions it was made with."""
_DEFAULTS = {"seq", "image_size", "attention"}
"""Fields that are None where the model's own choice was taken, which the other side may have written out."""


def require_same_run(predicted: Side, measured: Side) -> list[str]:
    """What two predictions (or two measurements) differ in on purpose, such as "batch: 8 and 16".

    BadOption where the models differ, or where a measurement is of another scenario than the prediction.
    """
    models = list(_models(predicted, measured))
    scenarios = list(_scenarios(predicted, measured))
    if models:
        raise BadOption(
            f"{predicted.name} and {measured.name} are of different models: {'; '.join(models)}",
            hint="predict the model that was measured; to set models side by side: tonnage weigh ONE OTHER",
        )
    if scenarios and predicted.measured != measured.measured:
        raise BadOption(
            f"{predicted.name} and {measured.name} are of different scenarios: {'; '.join(scenarios)}",
            hint="predict again as it was measured: tonnage weigh ... --save FILE",
        )
    return [*scenarios, *_surroundings(predicted, measured)]


def _models(predicted: Side, measured: Side) -> Iterator[str]:
    """Parameters are compared by shape: their names change with the version of a library."""
    ours, theirs = _shapes(predicted.recording), _shapes(measured.recording)
    if not ours or not theirs or ours == theirs:
        return
    counts = format_count(_elements(ours)), format_count(_elements(theirs))
    if counts[0] != counts[1]:
        yield f"{counts[0]} and {counts[1]} parameters"
    else:
        yield f"{counts[0]} parameters in tensors of other shapes"


def _shapes(recording: Recording) -> Counter[tuple[int, ...]]:
    unique = {p.identity: p.shape for p in recording.trace.parameters if p.kind == "parameter"}
    return Counter(unique.values())


def _elements(shapes: Counter[tuple[int, ...]]) -> int:
    total = 0
    for shape, times in shapes.items():
        elements = times
        for size in shape:
            elements *= size
        total += elements
    return total


def _scenarios(predicted: Side, measured: Side) -> Iterator[str]:
    if predicted.scenario is not None and measured.scenario is not None:
        yield from _fields(predicted, measured)
        return
    modes = _mode(predicted), _mode(measured)
    if all(modes) and modes[0] != modes[1]:
        yield f"mode: {modes[0]} and {modes[1]}"
    inputs = _input_bytes(predicted), _input_bytes(measured)
    if all(inputs) and inputs[0] != inputs[1]:
        yield f"inputs: {inputs[0]:,} B and {inputs[1]:,} B"


def _fields(predicted: Side, measured: Side) -> Iterator[str]:
    training = all(side.scenario is not None and side.scenario.training for side in (predicted, measured))
    for name in _FIELDS:
        ours, theirs = getattr(predicted.scenario, name), getattr(measured.scenario, name)
        by_default = name in _DEFAULTS and None in (ours, theirs)
        if ours != theirs and not by_default and (training or name not in ("optimizer", "checkpointing")):
            yield f"{name.replace('_', ' ')}: {ours} and {theirs}"


def _mode(side: Side) -> str:
    """As the marks tell; "" where they do not."""
    names = [name for name, _ in side.positions]
    if any(name.endswith(("backward done", "optimizer done")) for name in names):
        return "training"
    return "inference" if "forward done" in names else ""


def _input_bytes(side: Side) -> int:
    ledger = side.recording.ledger
    pairs = zip(ledger.sizes, ledger.categories, strict=True)
    return sum(size for size, category in pairs if category == Category.INPUT)


def _surroundings(predicted: Side, measured: Side) -> Iterator[str]:
    ours, theirs = predicted.recording.environment, measured.recording.environment
    pairs = {
        "device": (ours.device, theirs.device),
        "torch": (ours.torch_rules, theirs.torch_rules),
        "allocator settings": (ours.alloc_conf or "none", theirs.alloc_conf or "none"),
        **{
            name: (ours.libraries[name], theirs.libraries[name])
            for name in ours.libraries
            if name in theirs.libraries and name != "torch"
        },
    }
    for name, (one, other) in pairs.items():
        if one != other and not any(UNKNOWN in text for text in (one, other)):
            yield f"{name}: {one} and {other}"
