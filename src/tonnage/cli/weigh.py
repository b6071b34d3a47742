"""tonnage weigh: how much GPU memory models take."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tonnage.cli.options import choices
from tonnage.cli.output import write, write_json
from tonnage.cli.progress import working_on
from tonnage.errors import EXIT_CHECK_FAILED, EXIT_OK
from tonnage.scenario import ATTENTIONS, MODES, OPTIMIZERS, PRECISIONS

if TYPE_CHECKING:
    from tonnage.report import Report


@click.command()
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@click.option("--batch", type=int, default=1, show_default=True, help="Samples at a time.")
@click.option("--seq", type=int, help="Tokens per sample, where the model takes tokens.")
@click.option("--image-size", type=int, help="Pixels to a side, where the model takes images.")
@click.option("--mode", metavar=choices(MODES), default="inference", show_default=True, help="What is run.")
@click.option("--optimizer", metavar=choices(OPTIMIZERS), default="adamw", show_default=True, help="For training.")
@click.option("--precision", metavar=choices(PRECISIONS), default="fp32", show_default=True, help="Of the weights.")
@click.option("--attention", metavar=choices(ATTENTIONS), help="How attention runs; default: as the library does.")
@click.option("--checkpointing", is_flag=True, help="Recompute activations in backward.")
@click.option("--gpu", metavar="NAME", help="The card it must fit (`tonnage gpus` lists them), or cpu.")
@click.option(
    "--gpu-memory", metavar="SIZE", help="Memory of that card as PyTorch reports it, such as 6GiB, or of the machine."
)
@click.option("--torch-version", metavar="VERSION", help="Whose memory behaviour to follow; default: the installed.")
@click.option("--alloc-conf", metavar="SETTINGS", help="As in PYTORCH_CUDA_ALLOC_CONF.")
@click.option("--trust-remote-code", is_flag=True, help="Let a model repository run its own Python code here.")
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
