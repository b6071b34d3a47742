"""Writes what each command's `--help` prints into docs/commands.md: `python docs/commands_help.py`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from tonnage.cli import tonnage

PAGE = Path(__file__).with_name("commands.md")
BLOCK = re.compile(r"^```text\n(\$ tonnage (\w+) --help)\n.*?^```$", re.MULTILINE | re.DOTALL)
WIDTH = 80


def help_of(name: str) -> str:
    """What `tonnage NAME --help` prints on a terminal of WIDTH columns."""
    command = tonnage.commands[name]
    context = click.Context(
        command, info_name=f"tonnage {name}", terminal_width=WIDTH - 2, help_option_names=["-h", "--help"]
    )
    return command.get_help(context)


def page(text: str) -> str:
    """`text` with every help block replaced by the present one."""
    return BLOCK.sub(lambda found: f"```text\n{found[1]}\n{help_of(found[2])}\n```", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
