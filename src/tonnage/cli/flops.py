"""tonnage flops: how much arithmetic, where, and why exactly that much."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tonnage.cli.options import (
    CHECKPOINTING,
    MODE,
    PRECISION,
    SIZES,
    TRUST_REMOTE_CODE,
    choices,
    with_options,
)
from tonnage.cli.output import write
from tonnage.cli.progress import working_on
from tonnage.errors import EXIT_OK
from tonnage.scenario import ATTENTIONS

if TYPE_CHECKING:
    from tonnage.report import ComputeReport


@click.command(short_help="How much arithmetic, in which modules, and why.")
@click.argument("subject")
@with_options(*SIZES, MODE, PRECISION)
@click.option("--attention", metavar=choices(ATTENTIONS), help="How attention runs; the count is the same.")
@CHECKPOINTING
@click.option("--gpu", metavar="NAME", help="Bound the time on a card; `tonnage gpus` lists them.")
@click.option("--what-if", is_flag=True, help="What exchanges of its convolutions would save.")
@click.option("--depth", type=int, help="How deep the table of modules goes.")
@TRUST_REMOTE_CODE
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON instead.")
def flops(subject: str, depth: int | None, as_json: bool, **options: Any) -> int:
    """Say how many multiply-accumulates and FLOPs SUBJECT takes, forward and in a step, in which modules, and why.

    SUBJECT is what `tonnage weigh` takes. A MAC is one multiply-accumulate of a matrix product, a convolution,
    attention or a recurrent gate, and counts as 2 FLOPs.
    """
    report = _flops(subject, options)
    if as_json:
        write(f"{report.to_json()}\n")
        return EXIT_OK
    write(_pages(report, depth))
    return EXIT_OK


def _pages(report: ComputeReport, depth: int | None) -> str:
    from tonnage.render.flops import compute_page

    pages = [compute_page(report, sys.stdout, depth=depth)]
    if report.roofline is not None:
        from tonnage.render.roofline import roofline_page

        pages.append(roofline_page(report.roofline, sys.stdout, useful=report.useful))
    if report.what_ifs is not None:
        from tonnage.render.whatifs import model_what_ifs_page

        pages.append(model_what_ifs_page(report.what_ifs, sys.stdout))
    return "\n".join(pages)


def _flops(subject: str, options: dict[str, Any]) -> ComputeReport:
    with working_on(subject) as say:
        from tonnage import pipeline

        return pipeline.flops(subject, **options, progress=say)
