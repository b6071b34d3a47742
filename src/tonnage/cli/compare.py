"""tonnage compare: a prediction against a measurement, or two of a kind."""

from __future__ import annotations

import sys

import click

from tonnage.cli.output import write, write_json
from tonnage.cli.progress import progress
from tonnage.errors import EXIT_CHECK_FAILED, EXIT_OK, BadOption


@click.command(short_help="How far a prediction is from a measurement, and why.")
@click.argument("predicted")
@click.argument("measured")
@click.option(
    "--tolerance", metavar="SHARE", help="How far off the peak may be; by default 2% of a measurement, or anything."
)
@click.option("--events", type=click.IntRange(min=0), default=8, show_default=True, help="Differences to name.")
@click.option("--json", "json_file", metavar="FILE", help="Write all of it as JSON; - for stdout, without the page.")
def compare(predicted: str, measured: str, tolerance: str | None, events: int, json_file: str | None) -> int:
    """Say how far PREDICTED is from MEASURED, and name what makes up the difference.

    \b
    tonnage compare predicted.tonnage measured.tonnage --tolerance 1%
    tonnage compare t4.tonnage h100.tonnage

    Both are files: written by `weigh --save` or `measure --save`, or a memory snapshot of PyTorch's (.pickle). Two
    predictions show what another card, PyTorch or option changes. The exit code is 1 where the peak is off by more
    than the tolerance.
    """
    share = None if tolerance is None else _share(tolerance)
    with progress() as say:
        from tonnage import pipeline

        found = pipeline.compare(predicted, measured, tolerance=share, progress=say)
    if json_file is not None:
        write_json(json_file, found.to_json())
    if json_file != "-":
        from tonnage.render.compared import compared_page

        write(compared_page(found, sys.stdout, events=events))
    return EXIT_OK if found.verdict is None or found.verdict.within else EXIT_CHECK_FAILED


def _share(text: str) -> float:
    """2%, or 0.02."""
    number, percent, _ = text.strip().partition("%")
    try:
        return float(number) / 100 if percent else float(number)
    except ValueError:
        raise BadOption(f"`{text}` is no tolerance", hint="write it as --tolerance 2%") from None
