"""tonnage weigh: how much GPU memory models take."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tonnage.cli.options import SCENARIO, TRUST_REMOTE_CODE, with_options
from tonnage.cli.output import write, write_json
from tonnage.cli.progress import working_on
from tonnage.errors import EXIT_CHECK_FAILED, EXIT_OK

if TYPE_CHECKING:
    from tonnage.report import Report


@click.command(short_help="How much GPU memory models take, and whether they fit.")
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@with_options(*SCENARIO)
@click.option("--gpu", metavar="NAME", help="The card it must fit (`tonnage gpus` lists them), or cpu.")
@click.option(
    "--gpu-memory", metavar="SIZE", help="Memory of that card as PyTorch reports it, such as 6GiB, or of the machine."
)
@click.option("--torch-version", metavar="VERSION", help="Whose memory behaviour to follow; default: the installed.")
@click.option("--alloc-conf", metavar="SETTINGS", help="As in PYTORCH_CUDA_ALLOC_CONF.")
@TRUST_REMOTE_CODE
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; - for stdout, without the page.")
@click.option("--save", "saved", metavar="FILE", help="Keep report and recording for `tonnage show`.")
def weigh(subjects: tuple[str, ...], json_file: str | None, saved: str | None, **options: Any) -> int:
    """Say how much GPU memory SUBJECT takes, without a GPU and without weights.

    SUBJECT is a model name (bert-base-uncased, torchvision:vgg16, timm:NAME), a folder with a config.json, or Python
    code that makes the model (path/file.py:factory, package.module:factory). Several are compared.
    """
    from tonnage.report import reports_to_json, save_reports

    reports = [_weigh(subject, options, forms=len(subjects) == 1) for subject in subjects]
    if saved is not None:
        save_reports(saved, reports)
    if json_file is not None:
        write_json(json_file, reports_to_json(reports))
    if json_file != "-":
        from tonnage.render.terminal import page

        write(page(reports, sys.stdout))
    fit = all(report.verdict is None or report.verdict.fits for report in reports)
    return EXIT_OK if fit else EXIT_CHECK_FAILED


def _weigh(subject: str, options: dict[str, Any], *, forms: bool) -> Report:
    """The report; its closed forms are derived where the page shows them."""
    with working_on(subject) as say:
        from tonnage import pipeline

        report = pipeline.weigh(subject, **options, progress=say)
        say("deriving the closed forms")
        return report.settled() if forms else report
