"""tonnage structure: what a model is made of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tonnage.cli.options import SIZES, TRUST_REMOTE_CODE, choices, with_options
from tonnage.cli.output import write, write_json
from tonnage.cli.progress import working_on
from tonnage.errors import EXIT_OK
from tonnage.scenario import MODES

if TYPE_CHECKING:
    from tonnage.analyses.structure import Structure


@click.command(short_help="What a model is made of, and what each part does.")
@click.argument("subject")
@click.option("--depth", type=click.IntRange(min=0), help="Levels shown below the model; default: all.")
@click.option("--filter", "pattern", metavar="GLOB", help="Paths or types alone: 'encoder.*', '*.query', '*Attention'.")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the page.")
@click.option("--explain/--no-explain", default=True, show_default=True, help="A sentence on each part.")
@click.option("--run/--no-run", default=True, show_default=True, help="Run it once, to know shapes and calls.")
@with_options(*SIZES)
@click.option(
    "--mode",
    metavar=choices(MODES),
    default="inference",
    show_default=True,
    help="What is run; training shows what is kept for backward.",
)
@TRUST_REMOTE_CODE
@click.option("--json", "json_file", metavar="FILE", help="Write it as JSON; - for stdout, without the page.")
def structure(
    subject: str,
    depth: int | None,
    pattern: str | None,
    lang: str,
    explain: bool,
    json_file: str | None,
    **options: Any,
) -> int:
    """Show what SUBJECT is made of: its modules with repeated blocks folded, and what each part is.

    SUBJECT is what `tonnage weigh` takes. Shapes and calls come from running it once on a virtual GPU.
    """
    from tonnage.analyses.structure import select, structure_to_json

    found = _read(subject, options)
    if pattern is not None:
        found = select(found, pattern)
    if json_file is not None:
        write_json(json_file, structure_to_json(found))
    if json_file != "-":
        from tonnage.render.structure import structure_page

        write(structure_page(found, sys.stdout, depth=depth, lang=lang, explain=explain))
    return EXIT_OK


def _read(subject: str, options: dict[str, Any]) -> Structure:
    with working_on(subject) as say:
        from tonnage import pipeline

        return pipeline.structure(subject, **options, progress=say)
