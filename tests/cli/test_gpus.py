from __future__ import annotations

from tonnage.cli import main
from tonnage.gpus import all_cards


def test_all_cards(capsys):
    assert main(["gpus"]) == 0
    out = capsys.readouterr().out
    assert all(card.name in out for card in all_cards())


def test_one_card(capsys):
    assert main(["gpus", "t4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("T4: Tesla T4\n")
    assert "verified" in out


def test_an_unknown_card(capsys):
    assert main(["gpus", "RTX 3061"]) == 2
    err = capsys.readouterr().err
    assert "RTX 3061" in err and "did you mean RTX 3060" in err
