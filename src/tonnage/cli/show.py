"""tonnage show: print a saved report."""

from __future__ import annotations

import click

from tonnage.errors import EXIT_OK


@click.command()
@click.argument("saved")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead.")
def show(saved: str, as_json: bool) -> int:
    """Print the report in the file SAVED, written by `weigh --save` or `weigh --json`."""
    import sys

    from tonnage.cli.output import write
    from tonnage.render.terminal import page
    from tonnage.report import load_saved, reports_to_json

    reports = load_saved(saved)
    write(f"{reports_to_json(reports)}\n" if as_json else page(reports, sys.stdout))
    return EXIT_OK
