"""tonnage measure: what a model really takes, on a real device."""

from __future__ import annotations

import sys
from typing import Any

import click

from tonnage.cli.options import SCENARIO, TRUST_REMOTE_CODE, choices, with_options
from tonnage.cli.output import write, write_json
from tonnage.cli.progress import working_on
from tonnage.errors import EXIT_CHECK_FAILED, EXIT_NOT_DONE, EXIT_OK, CannotMeasure

_EXIT = {"out of memory": EXIT_CHECK_FAILED, "died": EXIT_NOT_DONE, "failed": EXIT_NOT_DONE, "interrupted": 130}
"""By what ended it early; 130 is 128 + SIGINT, as shells report it."""


@click.command(short_help="What a model really takes, on a device of this machine.")
@click.argument("subject")
@click.option("--device", metavar=choices(("cuda", "cpu")), help="Where it is run; default: cuda if there is one.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Runs that count.")
@click.option("--warmup", type=int, default=1, show_default=True, help="Runs before them that do not.")
@with_options(*SCENARIO)
@TRUST_REMOTE_CODE
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the measurement as JSON; - for stdout, without the page."
)
@click.option("--save", "saved", metavar="FILE", help="Keep report and recording for `tonnage show` and `compare`.")
def measure(subject: str, json_file: str | None, saved: str | None, **options: Any) -> int:
    """Run SUBJECT for real and say what it took of the device's memory, beside what was predicted.

    \b
    tonnage measure bert-base-uncased --mode training --batch 8 --seq 128
    tonnage measure t5-small --device cpu --save measured.tonnage

    SUBJECT is named as for `tonnage weigh`; weights are random, none are fetched. It runs in a process of its own, so
    that running out of memory is a result (exit code 1) and what was measured before is kept.
    """
    from tonnage.report import save_reports

    with working_on(subject) as say:
        from tonnage import pipeline

        measured = pipeline.measure(subject, **options, progress=say)
    if saved is not None:
        if measured.report is None:
            raise CannotMeasure("nothing was measured that could be saved", hint="leave --save out to see why")
        save_reports(saved, [measured.report])
    if json_file is not None:
        write_json(json_file, measured.to_json())
    if json_file != "-":
        from tonnage.render.measured import page

        write(page(measured.measurement, measured.report, measured.predicted, sys.stdout))
    failure = measured.measurement.failure
    return EXIT_OK if failure is None else _EXIT[failure.trouble]
