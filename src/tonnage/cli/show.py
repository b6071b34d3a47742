"""tonnage show: print a saved report, or what a memory snapshot of PyTorch says."""

from __future__ import annotations

import sys

import click

from tonnage.cli.output import write
from tonnage.errors import EXIT_OK


@click.command(short_help="A saved report, or a memory snapshot of PyTorch.")
@click.argument("saved")
@click.option("--device", type=int, metavar="N", help="Which CUDA device of a snapshot that holds several.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead.")
def show(saved: str, device: int | None, as_json: bool) -> int:
    """Print the report in the file SAVED, written by `weigh --save` or `weigh --json`.

    SAVED may be a memory snapshot that PyTorch wrote (torch.cuda.memory._dump_snapshot): then what its peak is made of.
    """
    from tonnage.measuring.snapshots import is_snapshot

    if is_snapshot(saved):
        write(_snapshot(saved, device, as_json))
        return EXIT_OK
    from tonnage.render.terminal import page
    from tonnage.report import load_saved, reports_to_json

    reports = load_saved(saved)
    write(f"{reports_to_json(reports)}\n" if as_json else page(reports, sys.stdout))
    return EXIT_OK


def _snapshot(saved: str, device: int | None, as_json: bool) -> str:
    from tonnage.analyses.holders import summarize_snapshot
    from tonnage.measuring.snapshots import read_snapshot
    from tonnage.render.snapshot import snapshot_page

    summary = summarize_snapshot(read_snapshot(saved, device=device), saved)
    return f"{summary.to_json()}\n" if as_json else snapshot_page(summary, sys.stdout)
