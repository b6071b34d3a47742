from __future__ import annotations

import io

import pytest

from tonnage.gpus import all_cards, find_card
from tonnage.render.cards import card_page, cards_page


@pytest.mark.parametrize("width", [80, 120])
def test_every_card_has_its_line(width):
    lines = cards_page(all_cards(), io.StringIO(), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == len(all_cards()) + 2
    for card, line in zip(all_cards(), lines[1:], strict=False):
        assert line.startswith(card.name)


def test_a_card_shows_every_fact_and_every_source():
    card = find_card("RTX 3060 Laptop")
    text = card_page(card, io.StringIO(), width=120)
    joined = " ".join(text.split())
    for name, fact in card.facts.items():
        assert name in text
        assert " ".join(fact.source.split()) in joined
    assert "NVIDIA GeForce RTX 3060 Laptop GPU" in text


@pytest.mark.parametrize("card", all_cards(), ids=lambda card: card.name)
def test_every_card_fits_a_terminal(card):
    assert max(map(len, card_page(card, io.StringIO(), width=80).splitlines())) <= 80
