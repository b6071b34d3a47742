"""The command line. stdout is the report, stderr is everything else.

Exit codes: 0 fine, 1 runs out on the card that was named, 2 could not be done as asked, 130 interrupted.
Written with click and not with typer, which since 0.29 brings pydantic along and no longer shares click's exceptions.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import click

from tonnage import __version__
from tonnage.cli.compare import compare
from tonnage.cli.export import export
from tonnage.cli.flops import flops
from tonnage.cli.gpus import gpus
from tonnage.cli.measure import measure
from tonnage.cli.params import params
from tonnage.cli.show import show
from tonnage.cli.structure import structure
from tonnage.cli.weigh import weigh
from tonnage.errors import EXIT_NOT_DONE, EXIT_OK, TonnageError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _InOrder(click.Group):
    """Lists its commands in the order in which they were added."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tonnage", message="%(prog)s %(version)s")
def tonnage() -> None:
    """Weigh a neural network before you load it: where every byte of GPU memory goes, without a GPU."""


for command in (weigh, measure, structure, params, flops, compare, show, export, gpus):
    tonnage.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's own) and returns the exit code.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    tonnage ...
    0
    """
    try:
        result = tonnage.main(args=argv, prog_name="tonnage", standalone_mode=False)
    except TonnageError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        print(f"error: {error.message.rstrip('.')}\n\nhint: {_hint(error)}", file=sys.stderr)
        return EXIT_NOT_DONE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception:
        traceback.print_exc()
        print("\nThis is a mistake in tonnage, not yours. Please report it with the lines above.", file=sys.stderr)
        return EXIT_NOT_DONE
    return result if isinstance(result, int) else EXIT_OK


def _hint(error: click.ClickException) -> str:
    close = getattr(error, "possibilities", None)
    if close:
        return f"did you mean {' or '.join(sorted(close))}?"
    context = getattr(error, "ctx", None)
    return f"`{context.command_path if context else 'tonnage'} --help` lists what there is"
