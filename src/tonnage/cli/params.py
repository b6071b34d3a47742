"""tonnage params: how many parameters, and why exactly that many."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import click

from tonnage.cli.output import write
from tonnage.cli.progress import progress
from tonnage.errors import EXIT_OK


@click.command()
@click.argument("subject")
@click.option("--trust-remote-code", is_flag=True, help="Let a model repository run its own Python code here.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON instead.")
def params(subject: str, trust_remote_code: bool, as_json: bool) -> int:
    """Say how many parameters SUBJECT has, and why exactly that many: a closed form, proved.

    SUBJECT is what `tonnage weigh` takes. It is built without weights, also at other sizes, and never run.
    """
    with redirect_stdout(sys.stderr), progress() as say:  # what the user's own code prints is no part of the page
        say(f"{subject}: loading PyTorch")
        from tonnage import pipeline

        report = pipeline.params(
            subject, trust_remote_code=trust_remote_code, progress=lambda stage: say(f"{subject}: {stage}")
        )
    if as_json:
        write(f"{report.to_json()}\n")
    else:
        from tonnage.render.params import params_page

        write(params_page(report, sys.stdout))
    return EXIT_OK
