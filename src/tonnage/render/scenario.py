"""What was run, in one line."""

from __future__ import annotations

from collections.abc import Iterator

from tonnage.render.text import Glyphs
from tonnage.report import Report
from tonnage.scenario import Scenario


def scenario_line(report: Report, glyphs: Glyphs) -> str:
    """What was run and on what, such as "training, batch 8, seq 128, fp32, adamw; RTX 2060, torch 2.7.1"."""
    card = report.card or "no card named"
    return glyphs.clean(f"{in_words(report.scenario)}; {card}, torch {report.environment.torch_rules}")


def in_words(scenario: Scenario) -> str:
    """What was run, without the card: "training, batch 8, seq 128, fp32, adamw"."""
    return ", ".join(_parts(scenario))


def _parts(scenario: Scenario) -> Iterator[str]:
    yield scenario.mode
    yield f"batch {scenario.batch}"
    if scenario.seq is not None:
        yield f"seq {scenario.seq}"
    if scenario.image_size is not None:
        yield f"image size {scenario.image_size}"
    yield scenario.precision
    if scenario.training:
        yield scenario.optimizer
    if scenario.attention is not None:
        yield f"{scenario.attention} attention"
    if scenario.checkpointing:
        yield "checkpointing"
