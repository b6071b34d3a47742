"""tonnage export: a recording for other tools to open."""

from __future__ import annotations

import click

from tonnage.errors import EXIT_OK


@click.command(short_help="A recording for PyTorch's memory viewer or Perfetto.")
@click.argument("file")
@click.argument("out")
@click.option("--report", "number", type=int, metavar="N", help="Which report of FILE, from 1, where it holds several.")
@click.option("--device", type=int, metavar="N", help="Which CUDA device of FILE, where it holds several.")
def export(file: str, out: str, number: int | None, device: int | None) -> int:
    """Write the recording in FILE to OUT, in the form that the name of OUT ends in.

    \b
    tonnage export bert.tonnage bert.pickle
    tonnage export snapshot.pickle run.json

    .pickle is a memory snapshot for PyTorch's viewer at pytorch.org/memory_viz, .json a trace for ui.perfetto.dev and
    chrome://tracing, .tonnage a recording. FILE is what `weigh --save` wrote, or a PyTorch memory snapshot.
    """
    from tonnage.pipeline.exporting import export

    export(file, out, number=number, device=device)
    return EXIT_OK
