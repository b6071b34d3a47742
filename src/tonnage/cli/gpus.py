"""tonnage gpus: the card catalogue."""

from __future__ import annotations

import click

from tonnage.errors import EXIT_OK


@click.command(short_help="The cards, and what is known of each.")
@click.argument("name", required=False)
def gpus(name: str | None) -> int:
    """List the cards, or show what is known about the card NAME and where from."""
    import sys

    from tonnage.cli.output import write
    from tonnage.gpus import all_cards, find_card
    from tonnage.render.cards import card_page, cards_page

    write(cards_page(all_cards(), sys.stdout) if name is None else card_page(find_card(name), sys.stdout))
    return EXIT_OK
